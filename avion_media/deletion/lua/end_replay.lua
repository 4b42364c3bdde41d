-- End a replay of the journal. The records are complete, unless data was lost meanwhile.
-- KEYS: completeness of buckets   ARGV: id of the replay, time in Unix milliseconds
local process = process_id()
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'began') == ARGV[1] .. process then
    redis.call('HSET', key, 'process', process, 'replay', ARGV[1], 'as_of', ARGV[2])
    redis.call('HDEL', key, 'began')
  end
end

-- End a replay of the journal. The records are complete, unless data was lost meanwhile.
-- KEYS: completeness of buckets   ARGV: id of the replay
for _, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'began', 'began_at')
  if found[1] == ARGV[1] .. process then
    redis.call('HSET', key, 'process', process, 'replay', ARGV[1], 'as_of', found[2])
    redis.call('HDEL', key, 'began', 'began_at')
  end
end

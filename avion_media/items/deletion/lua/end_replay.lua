-- End a replay of the journal, or note how far it got. The records are complete at its end, unless data was lost meanwhile.
-- KEYS: completeness of buckets   ARGV: the key of the journal that it has reached; empty at its end; then the replay of each
local reached = ARGV[1]
for index, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'began', 'began_at')
  local began = found[1]
  if began and began == ARGV[1 + index] and string.sub(began, -#process) == process then
    if reached ~= '' then
      redis.call('HSET', key, 'reached', reached)
    else
      redis.call('HSET', key, 'process', process, 'replay', began, 'as_of', found[2])
      redis.call('HDEL', key, 'began', 'began_at', 'reached')
    end
  end
end

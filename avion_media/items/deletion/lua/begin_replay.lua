-- Begin a replay of the journal. If the server loses its data before `end_replay`, `end_replay` finds no trace of it.
-- KEYS: completeness of buckets   ARGV: id of the replay
-- Returns for each bucket the time up to which its records are complete (Unix milliseconds of the server that had them), '0' if
-- that is unknown, or '' if none is missing.
local times, now = {}, whole(now_ms())
for index, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'process', 'as_of')
  if found[1] == process then
    times[index] = ''
  else
    redis.call('HSET', key, 'began', ARGV[1] .. process, 'began_at', now)
    times[index] = found[1] and found[2] or '0'
  end
end
return times

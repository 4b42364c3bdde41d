-- Begin a replay of the journal, or continue one that another replica began. If the server loses its data before
-- `end_replay`, `end_replay` finds no trace of it.
-- KEYS: completeness of buckets   ARGV: id of the replay
-- Returns for each bucket {time up to which its records are complete (Unix milliseconds of the server that had them), '0' if that
-- is unknown, or '' if none is missing; the replay; the key of the journal that it has reached}.
local found, now = {}, whole(now_ms())
for index, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, 'process', 'as_of', 'began', 'reached')
  local began, reached = record[3], record[4] or ''
  if record[1] == process then
    found[index] = {'', '', ''}
  else
    if not began or string.sub(began, -#process) ~= process then
      began, reached = ARGV[1] .. process, ''
      redis.call('HSET', key, 'began', began, 'began_at', now)
      redis.call('HDEL', key, 'reached')
    end
    found[index] = {record[1] and record[2] or '0', began, reached}
  end
end
return found

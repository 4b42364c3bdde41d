-- A replay of the journal begins. If the server loses its data before `end_replay`, that finds no trace of this.
-- KEYS: completeness of buckets   ARGV: id of the replay
-- Returns for each the time up to which its records are whole in Unix milliseconds, '0' if nothing is known of them, or ''
-- if none is missing.
local times, process = {}, process_id()
for index, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'process', 'as_of')
  if found[1] == process then
    times[index] = ''
  else
    redis.call('HSET', key, 'began', ARGV[1] .. process)
    times[index] = found[1] and found[2] or '0'
  end
end
return times

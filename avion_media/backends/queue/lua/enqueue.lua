-- Add a task, once per dedup marker. Return the id of the first task that has this marker.
-- KEYS: queue, state, waiting, tenants [, dedup marker]
-- ARGV: task id, lifetime of the marker in ms, age in ms beyond which a marker does not count, field, value, …
local marker = KEYS[5]
if marker then
  local first = redis.call('SET', marker, ARGV[1], 'NX', 'GET', 'PX', ARGV[2])
  if first then
    -- The caller knows that the task of an older marker is lost.
    if tonumber(ARGV[2]) - redis.call('PTTL', marker) <= tonumber(ARGV[3]) then
      return first
    end
    redis.call('SET', marker, ARGV[1], 'PX', ARGV[2])
  end
end
local fields = arguments_from(4)
if add_to_stream(fields) then
  return ARGV[1]
end
wait_in_line(fields)
return ARGV[1]

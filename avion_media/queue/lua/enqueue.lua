-- Add a task, once per marker. Return the first task's id, however often it is asked for.
-- KEYS: queue, state, waiting, tenants [, marker]
-- ARGV: task id, marker's life in ms, oldest marker that counts in ms, field, value, …
local marker = KEYS[5]
if marker then
  local first = redis.call('SET', marker, ARGV[1], 'NX', 'GET', 'PX', ARGV[2])
  if first then
    -- Of an older one it is known that its task is lost.
    if tonumber(ARGV[2]) - redis.call('PTTL', marker) <= tonumber(ARGV[3]) then
      return first
    end
    redis.call('SET', marker, ARGV[1], 'PX', ARGV[2])
  end
end
local entry = {}
for index = 4, #ARGV do
  entry[#entry + 1] = ARGV[index]
end
add(entry)
return ARGV[1]

-- Add a task, once per marker. The first task's id, whoever asks, and however often.
-- KEYS: queue [, marker]   ARGV: task id, marker's life in ms, oldest marker that counts in ms, field, value, …
local marker = KEYS[2]
if marker then
  local first = redis.call('GET', marker)
  -- Of an older one it is known that its task is lost.
  if first and tonumber(ARGV[2]) - redis.call('PTTL', marker) <= tonumber(ARGV[3]) then
    return first
  end
  redis.call('SET', marker, ARGV[1], 'PX', ARGV[2])
end
local entry = {}
for index = 4, #ARGV do
  entry[#entry + 1] = ARGV[index]
end
append(KEYS[1], entry)
return ARGV[1]

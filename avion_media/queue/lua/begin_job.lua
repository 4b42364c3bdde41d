-- Begin a bulk job, unless one of its kind is running or paused.
-- KEYS: job, its items   ARGV: field, value, …
-- Returns whether it was begun.
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'running' or state == 'paused' then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
for index = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
end
return 1

-- Begin a bulk job, unless one of its kind is running or paused.
-- KEYS: job, its items   ARGV: how many of the following are fields and values, field, value, …, item, …
-- Returns whether it was begun.
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'running' or state == 'paused' then
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2])
local first_item = tonumber(ARGV[1]) + 2
for index = 2, first_item - 1, 2 do
  redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
end
for index = first_item, #ARGV do
  redis.call('ZADD', KEYS[2], 0, ARGV[index])
end
return 1

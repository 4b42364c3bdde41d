-- Begin a bulk job, unless one of its kind is running or paused.
-- KEYS: job, its items, the items that were written for it   ARGV: field, value, …
-- Returns whether it was begun.
local was = redis.call('HGET', KEYS[1], 'state')
if was == 'running' or was == 'paused' then
  redis.call('UNLINK', KEYS[3])
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2])
for index = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
return 1

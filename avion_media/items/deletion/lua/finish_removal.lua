-- Record that the objects are removed. The record stays until nothing can write them again.
-- KEYS: record   ARGV: generation, lifetime in ms
local record = redis.call('HMGET', KEYS[1], 'state', 'generation')
if record[1] == 'removing' and record[2] == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'removed')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0

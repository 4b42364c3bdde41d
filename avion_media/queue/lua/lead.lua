-- Be, or stay, the janitor of a queue. Nothing depends on it that there is one only: each of its steps is a script.
-- KEYS: janitor   ARGV: token, life of the lease in ms
-- Returns 0 if this process is the janitor, else in how many ms the other one's lease ends.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0

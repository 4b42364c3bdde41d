-- Move an entry to the delayed set.
-- KEYS: queue, state, waiting, tenants, delayed   ARGV: group, id, consumer, deliveries, delay in s, member
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
redis.call('ZADD', KEYS[5], seconds(now_s() + tonumber(ARGV[5])), ARGV[6])
if not remove(ARGV[2]) then
  return 1
end
dispatch()
return 1

-- Move an entry to the delayed set.
-- KEYS: queue, delayed   ARGV: group, id, consumer, deliveries, delay in s, member
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
redis.call('ZADD', KEYS[2], seconds(now_s() + tonumber(ARGV[5])), ARGV[6])
remove(KEYS[1], ARGV[1], ARGV[2])
return 1

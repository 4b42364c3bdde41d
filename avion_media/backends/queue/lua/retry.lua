-- Move an entry to the delayed set.
-- KEYS: queue, state, waiting, tenants, delayed   ARGV: group, id, consumer, deliveries, delay in s, member
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
redis.call('ZADD', KEYS[5], seconds(now_s() + tonumber(ARGV[5])), ARGV[6])
local tenant = take_out(ARGV[2])
if not tenant then
  return 1
end
note_ended(tenant)
dispatch()
return 1

-- Put a task back to the front of its tenant's backlog, and give the tenant no turn for a while.
-- KEYS: queue, state, waiting, tenants   ARGV: group, id, consumer, deliveries, pause of the tenant in s, field, value, …
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
remove(GROUP, ARGV[2])
local tenant = wait_in_line(arguments_from(6))
local turn = tonumber(redis.call('ZSCORE', tenants, tenant))
local until_s = PARKED + now_s() + tonumber(ARGV[5])
if turn < PARKED then
  redis.call('HSET', state, 'turn:' .. tenant, in_video_lane(tenant) and turn - VIDEO_LANE or turn)
end
if turn < until_s or turn == AT_CAP then
  redis.call('ZADD', tenants, seconds(until_s), tenant)
end
dispatch()
return 1

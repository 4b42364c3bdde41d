-- Put a task back to the front of its tenant's backlog, and give the tenant no turn for a while.
-- KEYS: queue, state, waiting, tenants   ARGV: group, id, consumer, deliveries, pause of the tenant in s, field, value, …
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
remove(ARGV[2])
local tenant = wait_in_line(arguments_from(6))
local parked, until_s = 'parked:' .. tenant, now_s() + tonumber(ARGV[5])
if until_s > tonumber(redis.call('HGET', state, parked) or 0) then
  redis.call('HSET', state, parked, seconds(until_s))
end
local _, turn = phase_of(tenant)
place(tenant, RESTING, turn)
dispatch()
return 1

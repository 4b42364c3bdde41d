-- Remove a task whose effect is durable.
-- KEYS: queue, state, waiting, tenants [, dedup marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its dedup marker stays in ms
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
expire_dedup(KEYS[5], ARGV[5], ARGV[6])
local tenant = take_out(ARGV[2], ARGV[5])
if not tenant then
  return 1
end
note_ended(tenant)
dispatch()
return 1

-- Remove a task whose effect is durable.
-- KEYS: queue, state, waiting, tenants [, dedup marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its dedup marker stays in ms
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
expire_dedup(KEYS[5], ARGV[5], ARGV[6])
if not remove(ARGV[2], ARGV[5]) then
  return 1
end
dispatch()
return 1

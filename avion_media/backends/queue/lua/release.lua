-- Give up the lease of an unfinished entry. This delivery counts neither as an attempt nor as a worker crash.
-- KEYS: queue, state, waiting, tenants   ARGV: group, id, consumer, deliveries
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
local queued = requeue(ARGV[2])
dispatch()
return queued and 1 or 0

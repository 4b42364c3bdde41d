-- Remove a task whose effect is durable. Its worker can take its next task in the same step.
-- KEYS: queue, state, waiting, tenants [, dedup marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its dedup marker stays in ms, crashes from which on the next task
-- runs alone ('' to take none)
-- Returns 1, or what `admit` does for the next task; 0 if the lease is lost.
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
expire_dedup(KEYS[5], ARGV[5], ARGV[6])
local tenant = take_out(ARGV[2], ARGV[5])
if tenant then
  note_ended(tenant)
  dispatch()
end
return ARGV[7] ~= '' and read_next(ARGV[3], ARGV[7]) or 1

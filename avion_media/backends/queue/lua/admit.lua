-- A worker confirms the start of an attempt: an unconfirmed entry now belongs to it, and its crash counts. The first worker
-- to confirm has the task.
-- KEYS: queue, state, waiting, tenants
-- ARGV: consumer, crashes from which on a task runs alone, id
-- Returns what `admit` does; '' also if another worker has the entry.
if not owns(queue, GROUP, ARGV[3], UNCONFIRMED, 1) then
  return ''
end
local entry = redis.call('XCLAIM', queue, GROUP, ARGV[1], 0, ARGV[3], 'RETRYCOUNT', 1)[1]
if entry then
  return admit(ARGV[1], entry, ARGV[2])
end
remove(ARGV[3])
dispatch()
return ''

-- Give a worker an entry, and let it begin: one that another worker has taken and not confirmed for a while, because it
-- stands still; else the next new one.
-- KEYS: queue, state, waiting, tenants
-- ARGV: consumer, crashes from which on a task runs alone, '1' to look for unconfirmed entries
-- Returns what `admit` does, and if that is '', there may be another; nil if there is no entry.
settings()
if ARGV[3] == '1' then
  local late = with_group(queue, GROUP, state, 'XPENDING', queue, GROUP, 'IDLE', CONFIRM_MS, '-', '+', 1, UNCONFIRMED)[1]
  local found = late and redis.call('XCLAIM', queue, GROUP, ARGV[1], CONFIRM_MS, late[1], 'RETRYCOUNT', 1)[1]
  if found then
    return admit(ARGV[1], found, ARGV[2])
  end
end
local begun = read_next(ARGV[1], ARGV[2])
if not begun then
  dispatch() -- what waits although the runway is empty, waits for its turn
end
return begun

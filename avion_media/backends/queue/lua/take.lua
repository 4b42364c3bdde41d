-- Give out an entry, which stays unconfirmed until its worker confirms the start of the attempt (admit): first one whose
-- worker has not done so for a while, because it stands still, else the next new one. An unconfirmed entry is claimed
-- in its place: as a new entry it could go to the open read of another worker that stands still.
-- KEYS: queue, state, waiting, tenants
-- Returns {id, fields}, or nil.
settings()
local late = with_group(queue, GROUP, state, 'XPENDING', queue, GROUP, 'IDLE', CONFIRM_MS, '-', '+', 1, UNCONFIRMED)[1]
local found = late and redis.call('XCLAIM', queue, GROUP, UNCONFIRMED, CONFIRM_MS, late[1], 'RETRYCOUNT', 1)[1]
if not found then
  local streams = redis.call('XREADGROUP', 'GROUP', GROUP, UNCONFIRMED, 'COUNT', 1, 'STREAMS', queue, '>')
  found = streams and streams[1][2][1]
end
if not found then
  dispatch() -- what waits although the runway is empty, waits for its turn
end
return found

-- A worker confirms the start of an attempt: an unconfirmed entry now belongs to it, and its crash counts. The first worker
-- to confirm has the task. One that must run alone has not begun yet (no delivery is counted): see renew.
-- KEYS: queue, state, waiting, tenants
-- ARGV: consumer, id, crashes from which on a task runs alone
-- Returns {deliveries, workers that crashed with the task, who has cancelled it or ''}, otherwise nil: the entry is a dead
-- letter, waits for its turn, or another worker has it.

if not owns(queue, GROUP, ARGV[2], UNCONFIRMED, 1) then
  return nil
end
local function claim(deliveries)
  return redis.call('XCLAIM', queue, GROUP, ARGV[1], 0, ARGV[2], 'RETRYCOUNT', deliveries)[1]
end

-- Whether a worker may begin with an entry. One that another service added is not counted yet.
local function is_admitted(id, fields, account)
  if account then
    return true
  end
  if settings().paused or excess_of_any(fields) then
    return false
  end
  local tenant = tenant_of(fields)
  if phase_of(tenant) == RESTING or has_no_slot(tenant) then
    return false
  end
  note_running(id, tenant)
  return true
end

local id, confirmed = ARGV[2], nil
local entry = claim(1)
local fields = entry and entry[2]
local found = entry and redis.call('HMGET', state, 'entry:' .. id, 'cancelled:' .. (value_of(fields, 'task_id') or id))
if entry and is_admitted(id, fields, found[1]) then
  local crashed, crashes = still_dead(fields)
  local runs_alone = crashes >= tonumber(ARGV[3])
  if runs_alone then
    claim(0)
  end
  confirmed = { runs_alone and 0 or 1, crashed, found[2] or '' }
end
local tenant, turn = next_turn()
if confirmed and not tenant then
  return confirmed
end
if confirmed then
  dispatch(tenant, turn)
  return confirmed
end
if entry then
  move_to_backlog(id, fields)
else
  remove(id)
end
dispatch()
return nil

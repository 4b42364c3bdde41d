-- A worker confirms the start of an attempt: an unconfirmed entry now belongs to it, and its crash counts. The first worker
-- to confirm has the task. One that must run alone has not begun yet (no delivery is counted): see renew.
-- KEYS: queue, state, waiting, tenants
-- ARGV: consumer, id, crashes from which on a task runs alone
-- Returns {deliveries, workers that crashed with the task, who has cancelled it or ''}, otherwise nil: the entry is a dead
-- letter, waits for its turn, or another worker has it.

-- Return the operator who cancelled the task of an entry that a consumer has just received ('' if none did), if the consumer
-- may work on it. If not, move the entry to the backlog or to the dead letters. An entry that another service added is not
-- counted yet.
local function admit(id, fields)
  local found = redis.call('HMGET', state, 'entry:' .. id, 'cancelled:' .. (value_of(fields, 'task_id') or id))
  local cancelled_by = found[2] or ''
  if found[1] then
    return cancelled_by
  end
  if not settings().paused and not excess_of_any(fields) then
    local tenant = tenant_of(fields)
    if phase_of(tenant) ~= RESTING and not has_no_slot(tenant) then
      note_running(id, tenant)
      return cancelled_by
    end
  end
  move_to_backlog(id, fields)
  return nil
end

if not owns(queue, GROUP, ARGV[2], UNCONFIRMED, 1) then
  return nil
end
local function claim(deliveries)
  return redis.call('XCLAIM', queue, GROUP, ARGV[1], 0, ARGV[2], 'RETRYCOUNT', deliveries)[1]
end

local entry, confirmed = claim(1), nil
if entry then
  local cancelled_by = admit(ARGV[2], entry[2])
  if cancelled_by then
    local crashed, crashes = still_dead(entry[2])
    local runs_alone = crashes >= tonumber(ARGV[3])
    if runs_alone then
      claim(0)
    end
    confirmed = { runs_alone and 0 or 1, crashed, cancelled_by }
  end
else
  remove(ARGV[2])
end
dispatch()
return confirmed

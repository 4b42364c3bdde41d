-- Prepended to scripts that let a worker begin an attempt.

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

-- Let a worker begin with an entry that it has. One that must run alone has not begun yet (no delivery is counted): see
-- renew. Return {{id, fields}, {deliveries, workers that crashed with the task, who has cancelled it or ''}}; or '' if it is a
-- dead letter now, or waits for its turn.
local function admit(worker, entry, crashes_until_alone)
  local id, fields, admitted = entry[1], entry[2], ''
  local found = redis.call('HMGET', state, 'entry:' .. id, 'cancelled:' .. (value_of(fields, 'task_id') or id))
  if is_admitted(id, fields, found[1]) then
    local crashed, crashes = still_dead(fields)
    local runs_alone = crashes >= tonumber(crashes_until_alone)
    if runs_alone then
      redis.call('XCLAIM', queue, GROUP, worker, 0, id, 'RETRYCOUNT', 0, 'JUSTID')
    end
    admitted = { entry, { runs_alone and 0 or 1, crashed, found[2] or '' } }
  else
    move_to_backlog(id, fields)
  end
  local tenant, turn = next_turn()
  if tenant then
    dispatch(tenant, turn)
  end
  return admitted
end

-- Give a worker the next new entry, and let it begin; nil if there is none.
local function read_next(worker, crashes_until_alone)
  local read = with_group(queue, GROUP, state, 'XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', queue, '>')
  return read and admit(worker, read[1][2][1], crashes_until_alone)
end

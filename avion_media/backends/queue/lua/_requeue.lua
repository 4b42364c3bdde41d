-- Prepended to scripts that look at the workers that crashed with a task.

local function set_field(fields, name, value)
  local at = #fields + 1
  for index = #fields - 1, 1, -2 do
    at = fields[index] == name and index or at
  end
  fields[at], fields[at + 1] = name, value
end

-- Milliseconds for which each consumer of the group has sent nothing, read once per script.
local read_idle
local function idle_ms_of(name)
  if not read_idle then
    read_idle = {}
    for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', queue, GROUP)) do
      read_idle[field(row, 'name')] = field(row, 'idle')
    end
  end
  return read_idle[name] or math.huge
end

-- Return the workers that crashed with a task, and how many: of those that its entry names, all that have sent nothing since
-- then. A worker that has sent something only stood still.
local function still_dead(fields)
  local dead = {}
  for name, noticed in string.gmatch(value_of(fields, 'crashed_workers') or '', '(%S+)@([%d.]+)') do
    local ago_ms = (now_s() - tonumber(noticed)) * 1000
    if idle_ms_of(name) > ago_ms - CLOCK_MS then
      dead[#dead + 1] = name .. '@' .. noticed
    end
  end
  return table.concat(dead, ' '), #dead
end

-- Move a task that a worker did not finish to the end of the runway, as a new entry. `crashed` is the worker that crashed
-- with it, or nil. An entry that cannot be a task becomes a dead letter.
local function requeue(id, crashed)
  local entry = redis.call('XRANGE', queue, id, id)[1]
  if not entry then
    remove(id)
    return false
  end
  local fields = entry[2]
  if excess_of_any(fields) then
    move_to_backlog(id, fields)
    return false
  end
  keep_origin(fields, id)
  local names = still_dead(fields)
  if crashed then
    names = names .. ' ' .. crashed .. '@' .. seconds(now_s())
  end
  if names ~= (value_of(fields, 'crashed_workers') or '') then
    set_field(fields, 'crashed_workers', string.sub(names, -300)) -- the last three
  end
  local account = redis.call('HGET', state, 'entry:' .. id)
  local tenant = account or tenant_of(fields)
  if settings().paused or not account and is_bounded(tenant) then
    move_to_backlog(id, fields)
  else
    remove(id)
    note_running(append(queue, fields), tenant)
  end
  return true
end

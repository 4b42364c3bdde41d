-- Prepended to scripts that meet entries of other services: these can have any size.

-- Return in what way an entry (a flat list of names and values) is too large, or nil. Its id and the history that this
-- service wrote do not count, unless a name is repeated: a stream accepts a name several times.
local function excess(fields)
  local count, bytes, seen = 0, 0, {}
  for index = 1, #fields, 2 do
    local name, size = fields[index], #fields[index] + #fields[index + 1]
    if (name == 'task_id' or HISTORY[name]) and not seen[name] and size <= MAX_BYTES / 4 then
      seen[name] = true
    else
      count, bytes = count + 1, bytes + size
    end
  end
  if count > MAX_FIELDS or bytes > MAX_BYTES then
    return count .. ' fields of ' .. bytes .. ' bytes, more than ' .. MAX_FIELDS .. ' or ' .. MAX_BYTES
  end
end

-- The same for an entry that another service may have written: one that cannot be checked counts as too large.
local function excess_of_any(fields)
  local readable, found = pcall(excess, fields)
  return readable and found or not readable and tostring(found) or nil
end

-- The first fields of an entry, within the limits.
local function truncated(fields)
  local kept, left = {}, MAX_BYTES
  for index = 1, math.min(#fields, 2 * MAX_FIELDS), 2 do
    for part = index, index + 1 do
      local text = string.sub(tostring(fields[part]), 1, left)
      kept[#kept + 1] = text
      left = left - #text
    end
  end
  return kept
end

-- Make a dead letter of an entry that cannot be a task: truncated, with the reason.
local function dead_letter_malformed(fields, why)
  local given_up = truncated(fields)
  for name, value in pairs({
    error = 'malformed_task: ' .. why, attempts = '0', failed_at = seconds(now_s()),
  }) do
    given_up[#given_up + 1] = name
    given_up[#given_up + 1] = value
  end
  append_dead_letter(given_up, value_of(given_up, 'media_id'))
end

-- Move an entry that no worker may have now to its tenant's backlog. One that cannot be a task becomes a dead letter.
local function move_to_backlog(id, fields)
  local why = excess_of_any(fields)
  remove(id)
  if why then
    dead_letter_malformed(fields, why)
  else
    keep_origin(fields, id)
    wait_in_line(fields)
  end
end

-- In front of every script of this folder. All keys of one script lie in one cluster slot.

-- Unix seconds by the server's clock: where replicas of ours disagree about the time, this one decides.
local function now_s()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Lua's own conversion keeps 14 digits, too few for a Unix time.
local function seconds(value)
  return string.format('%.3f', value)
end

-- A command on a stream's group. A group that was lost (FLUSHALL, DEL, XGROUP DESTROY, a restart without persistence)
-- is made anew from the beginning, never from the end: what is in the stream has not been completed. What was in it may be
-- gone, so the time is noted in the queue's state: then the reconciliation looks for what is missing.
local function with_group(queue, group, state_key, ...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.find(reply.err, '^NOGROUP') then
    redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
    redis.call('HSET', state_key, 'lost', seconds(now_s()))
  end
  return redis.call(...) -- any other error comes again, and is raised
end

-- The fence: whether the entry is in this consumer's hands, by this very delivery.
local function owns(queue, group, id, consumer, deliveries)
  local rows = redis.pcall('XPENDING', queue, group, id, id, 1)
  if rows.err then
    return false -- no group, no owner
  end
  local row = rows[1]
  return row ~= nil and row[2] == consumer and row[4] == tonumber(deliveries)
end

-- Append an entry. The only place that unpacks a list: Lua's stack takes 8,000 values, and what this passes on is within
-- the bounds of an entry and its history. `entries_kept` bounds the stream, if given.
local function append(stream, fields, entries_kept)
  local most = 2 * (MAX_FIELDS + 16)
  if #fields > most then
    error('an entry of ' .. #fields / 2 .. ' fields for ' .. stream)
  end
  if entries_kept then
    return redis.call('XADD', stream, 'MAXLEN', '~', entries_kept, '*', unpack(fields))
  end
  return redis.call('XADD', stream, '*', unpack(fields))
end

-- What is too much about an entry (a flat list of names and values), or nil. Its id and the history that we wrote do not
-- count, if each is there once: a stream takes one name many times.
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

-- The same for an entry that another service may have written: one that cannot be judged is too much as well.
local function judged(fields)
  local readable, verdict = pcall(excess, fields)
  return readable and verdict or not readable and tostring(verdict) or nil
end

-- The beginning of an entry, within the bounds.
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

-- Make a dead letter of what cannot be a task: truncated, with the reason why.
local function dead_letter_malformed(dead_letters, fields, why, entries_kept)
  local given_up = truncated(fields)
  for name, value in pairs({
    error = 'malformed_task: ' .. why, attempts = '0', failed_at = seconds(now_s()),
  }) do
    given_up[#given_up + 1] = name
    given_up[#given_up + 1] = value
  end
  append(dead_letters, given_up, entries_kept)
end

-- A task that was unique while it lived ends. Its marker stays a while longer: a caller that decided to ask for it a moment
-- ago, before its end was known, still hears of this one.
local function release(marker, task_id, linger_ms)
  if marker and redis.call('GET', marker) == task_id then
    redis.call('PEXPIRE', marker, linger_ms, 'LT')
  end
end

-- A named value of one row of XINFO.
local function field(row, name)
  for index = 1, #row, 2 do
    if row[index] == name then
      return row[index + 1]
    end
  end
end

-- Prepended to every script of this folder. All keys of one script are in one cluster slot.

-- Unix seconds by the server's clock, because the clocks of replicas can differ.
local function now_s()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Lua's own conversion keeps 14 digits, too few for a Unix time.
local function seconds(value)
  return string.format('%.3f', value)
end

-- A command on a stream's group. A group that was lost (FLUSHALL, DEL, XGROUP DESTROY, a restart without persistence)
-- is created again from the start of the stream, because what is in the stream has not been completed. Entries may have
-- been lost, so the time is written to the queue's state: the sweep then looks for lost tasks.
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

-- The fence: whether this consumer owns the entry, by this delivery.
local function owns(queue, group, id, consumer, deliveries)
  local rows = redis.pcall('XPENDING', queue, group, id, id, 1)
  if rows.err then
    return false -- no group, no owner
  end
  local row = rows[1]
  return row ~= nil and row[2] == consumer and row[4] == tonumber(deliveries)
end

-- Append an entry. This is the only place that unpacks a list: Lua's stack takes 8,000 values, and an entry with its
-- history has far fewer. `entries_kept`, if given, limits the stream.
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

-- The arguments from this one on: of a script, the fields of an entry.
local function arguments_from(first)
  local found = {}
  for index = first, #ARGV do
    found[#found + 1] = ARGV[index]
  end
  return found
end

-- A task with a dedup key ends. Its dedup marker stays for a while, because a caller may have decided to queue the task
-- just before it ended: that caller gets the id of the ended task.
local function expire_dedup(marker, task_id, ttl_ms)
  if marker and redis.call('GET', marker) == task_id then
    redis.call('PEXPIRE', marker, ttl_ms, 'LT')
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

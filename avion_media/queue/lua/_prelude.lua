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
-- gone, so the time is noted in the queue's watch: then the reconciliation looks for what is missing.
local function with_group(queue, group, watch, ...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.find(reply.err, '^NOGROUP') then
    redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
    redis.call('HSET', watch, 'lost', seconds(now_s()))
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

-- Only completed entries leave a stream: nothing else ever trims it.
local function remove(queue, group, id)
  redis.call('XACK', queue, group, id)
  redis.call('XDEL', queue, id)
end

-- A task that was unique while it lived ends. Its marker stays a while longer: whoever decided to ask for it a moment
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

-- One entry whose owner has not renewed its lease for so long that it counts as dead. After an outage of this server
-- nobody does, until it has been watched for as long as that: its owner could not renew, and shall come first.
-- KEYS: queue, watch
-- ARGV: group, consumer, idle ms, longest gap of a watch in ms, most dead letters kept, shelf, ms without any word of an
-- owner after which its heartbeat counts as silent, dead letters (no key: see take.lua), ids in this consumer's hands …
-- Returns {id, deliveries, fields}, or nil. Deliveries minus one is how many owners died with it: those whose heartbeat
-- is silent too. A worker that still talks to this server has only lost one lease. What cannot be a task becomes a dead
-- letter on the way.
local queue, group, consumer, idle_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local alive = {}
for index = 9, #ARGV do
  alive[ARGV[index]] = true
end

local watch = redis.call('HMGET', KEYS[2], 'since', 'last')
local since, last = watch[1], watch[2]
if since then
  local now = now_s()
  if now - tonumber(last) > tonumber(ARGV[4]) / 1000 or now - tonumber(since) < tonumber(idle_ms) / 1000 then
    return nil
  end
end

-- The shelf is nobody: its deliveries were given back, so the next one is counted.
local function has_died(name)
  if name == ARGV[6] then
    return true
  end
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', queue, group)) do
    if field(row, 'name') == name then
      return field(row, 'idle') >= tonumber(ARGV[7])
    end
  end
  return true
end

local count = 16 + #ARGV
for _, row in ipairs(with_group(queue, group, KEYS[2], 'XPENDING', queue, group, 'IDLE', idle_ms, '-', '+', count)) do
  local id, owner, deliveries = row[1], row[2], row[4]
  local mine = owner == consumer
  if not (mine and alive[id]) then
    -- Of our own, but in nobody's hands: a reply was lost on its way. Nobody died of that.
    local now = (mine or not has_died(owner)) and deliveries or deliveries + 1
    local claimed = redis.call('XCLAIM', queue, group, consumer, 0, id, 'RETRYCOUNT', now)[1]
    local why = claimed and judged(claimed[2])
    if why then
      bury(ARGV[8], claimed[2], why, ARGV[5])
      remove(queue, group, id)
    elseif claimed then
      return { claimed[1], now, claimed[2] }
    end
  end
end
return nil

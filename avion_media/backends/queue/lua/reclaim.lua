-- Queue tasks again whose owner has not renewed its lease for so long that it counts as dead. After an outage of this
-- server none does, until the queue has had a janitor for as long as that: an owner could not renew, and comes first.
-- KEYS: queue, state, waiting, tenants
-- ARGV: consumer, idle ms, longest gap between two janitors in ms, ms without any word of an owner after which its heartbeat
-- counts as silent, most of them at once, '1' for entries of this consumer only, ids that this consumer works on …
-- Returns how many. A task remembers the workers that crashed with it: those that have begun an attempt, and whose heartbeat
-- is silent too. A worker that still talks to this server has only lost one lease, and nobody has begun an unconfirmed
-- entry. What cannot be a task becomes a dead letter on the way.
local idle_ms = ARGV[2]
local alive = {}
for index = 7, #ARGV do
  alive[ARGV[index]] = true
end

local there = redis.call('HMGET', state, 'since', 'last')
local since, last = there[1], there[2]
local own = ARGV[6] == '1'
if since and not own then
  local now = now_s()
  if now - tonumber(last) > tonumber(ARGV[3]) / 1000 or now - tonumber(since) < tonumber(idle_ms) / 1000 then
    return 0
  end
end
settings()

local reclaimed = 0
local most, rows = tonumber(ARGV[5]) + #ARGV - 6, nil
if own then
  rows = with_group(queue, GROUP, state, 'XPENDING', queue, GROUP, 'IDLE', idle_ms, '-', '+', most, ARGV[1])
else
  rows = with_group(queue, GROUP, state, 'XPENDING', queue, GROUP, 'IDLE', idle_ms, '-', '+', most)
end
for _, row in ipairs(rows) do
  local id, owner, deliveries = row[1], row[2], row[4]
  local mine = owner == ARGV[1]
  if not (mine and alive[id]) then
    -- Of our own, but nobody works on it: a reply was lost on its way. Nobody died of that.
    local crashed = not mine and owner ~= UNCONFIRMED and deliveries > 0 and idle_ms_of(owner) >= tonumber(ARGV[4])
    if requeue(id, crashed and owner) then
      reclaimed = reclaimed + 1
    end
  end
end
dispatch()
return reclaimed

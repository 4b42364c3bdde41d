-- Bring accounts and turns up to date: caps that have changed, tenants whose pause is over, entries that somebody removed.
-- Note that the janitor is there, and with it workers that can renew leases. If none was for a while (perhaps nobody could
-- reach this server), a worker that seems dead since then gets the time of a lease to come back.
-- KEYS: queue, state, waiting, tenants
-- ARGV: most tasks of a tenant at once (0: no bound), working slots of one consumer, number of consumers, share of the slots
-- that videos may take, longest gap between two janitors in ms
settings() -- so that the keys exist
local now = now_s()
if now - tonumber(redis.call('HGET', state, 'last') or 0) > tonumber(ARGV[5]) / 1000 then
  redis.call('HSET', state, 'since', seconds(now))
end
local videos = math.max(1, math.floor(tonumber(ARGV[3]) * tonumber(ARGV[2]) * tonumber(ARGV[4])))
redis.call('HSET', state, 'last', seconds(now), 'consumers', ARGV[3], 'slots', ARGV[2] * ARGV[3],
  'silent_ms', 2 * ARGV[5], 'tenant_cap', ARGV[1], 'video_cap', queue == LANED and videos or 0)
read_settings = nil
local paused_until = tonumber(redis.call('HGET', state, 'paused_until') or 0)
if paused_until > 0 and now >= paused_until then
  end_pause()
end

local PAGE, RESTED, REMOVED = 100, 300, 1000 -- that one step looks at: the rest has its turn in the next steps
local function count_below(score)
  return redis.call('ZCOUNT', tenants, '-inf', string.format('(%.0f', score))
end

local first, drained = count_below(RESTING), count_below(DRAINED)
local at = first + tonumber(redis.call('HGET', state, 'rest') or 0)
for _, tenant in ipairs(at < drained and redis.call('ZRANGE', tenants, at, math.min(at + RESTED, drained) - 1) or {}) do
  local _, turn = phase_of(tenant)
  readmit(tenant, turn)
end
redis.call('HSET', state, 'rest', at + RESTED < drained and at + RESTED - first or 0)

-- Tenants that had no task when their turn came.
for _, lane in ipairs({ VIDEO_LANE, IMAGE_LANE }) do
  local overdue = redis.call('ZCOUNT', tenants, DRAINED + lane, DRAINED + lane + time_of(lane))
  if overdue > 0 then
    local from = count_below(DRAINED + lane)
    redis.call('ZREMRANGEBYRANK', tenants, from, from + math.min(overdue, REMOVED) - 1)
  end
end

-- Some accounts at a time. An entry is gone without its account if somebody deletes it, or the stream. A task that was
-- cancelled can be unknown, or have ended just before.
local CANCELLED_S = 30 * 86400 -- longer than a task waits
local page = redis.call('HSCAN', state, redis.call('HGET', state, 'cursor') or '0', 'COUNT', PAGE)
local gone = 0
for index = 1, #page[2], 2 do
  local kind, id = string.match(page[2][index], '^(%a+):(.*)$')
  if gone < PAGE and kind == 'entry' and #redis.call('XRANGE', queue, id, id) == 0 then
    local tenant = close_account(id)
    if tenant then
      note_ended(tenant)
    end
    gone = gone + 1
  elseif gone < PAGE and kind == 'cancelled' and now - tonumber(string.match(page[2][index + 1], '@(%d+)$')) > CANCELLED_S then
    redis.call('HDEL', state, page[2][index])
    gone = gone + 1
  end
end
if gone < PAGE then -- else the page is read again: a small hash is always one page
  redis.call('HSET', state, 'cursor', page[1])
end
dispatch()

-- Bring accounts and turns up to date: caps that have changed, tenants whose pause is over, entries that somebody removed.
-- Note that the janitor is there, and with it workers that can renew leases. If none was for a while (perhaps nobody could
-- reach this server), a worker that seems dead since then gets the time of a lease to come back.
-- KEYS: queue, state, waiting, tenants, janitor
-- ARGV: most tasks of a tenant at once (0: no bound), working slots of one consumer, ms without any command after which a
-- consumer does not count, share of the slots that videos may take, longest gap between two janitors in ms, token of the
-- process that stays the janitor or '', life of its lease in ms
-- Returns how many consumers count, or nil if another process is the janitor. Nothing depends on it that there is one only.
local token = ARGV[6]
if token ~= '' and string.match(redis.call('GET', KEYS[5]) or '', '^%d+ (.*)$') ~= token then
  return nil
end
settings() -- so that the keys exist
local now = now_s()
-- Consumers are counted when one has come or gone, and every ten seconds: to read hundreds of them takes milliseconds.
local COUNTED_S = 10
local group = group_info()
local names = group and field(group, 'consumers') or 0
local known = redis.call('HMGET', state, 'names', 'consumers', 'counted_at')
local consumers = tonumber(known[2] or 0)
if tonumber(known[1] or -1) ~= names or math.abs(now - tonumber(known[3])) > COUNTED_S then
  consumers = 0
  for _, row in ipairs(names > 0 and redis.call('XINFO', 'CONSUMERS', queue, GROUP) or {}) do
    consumers = consumers + (field(row, 'idle') < tonumber(ARGV[3]) and 1 or 0)
  end
  redis.call('HSET', state, 'names', names, 'consumers', consumers, 'counted_at', seconds(now))
end
if now - tonumber(redis.call('HGET', state, 'last') or 0) > tonumber(ARGV[5]) / 1000 then
  redis.call('HSET', state, 'since', seconds(now))
end
redis.call('HSET', state, 'last', seconds(now))
if token ~= '' then
  redis.call('SET', KEYS[5], consumers .. ' ' .. token, 'PX', ARGV[7])
end
local videos = math.max(1, math.floor(consumers * tonumber(ARGV[2]) * tonumber(ARGV[4])))
redis.call('HSET', state, 'tenant_cap', ARGV[1], 'video_cap', queue == LANED and videos or 0)
read_settings = nil

local function each_tenant(from, to, visit)
  for _, tenant in ipairs(redis.call('ZRANGE', tenants, from, to, 'BYSCORE', 'LIMIT', 0, 200)) do
    visit(tenant)
  end
end

each_tenant(PARKED, string.format('%.3f', PARKED + now), readmit)
each_tenant(AT_CAP, AT_CAP, function(tenant)
  if not is_at_cap(running_of(tenant)) then
    readmit(tenant)
  end
end)

-- Some accounts at a time. An entry is gone without its account if somebody deletes it, or the stream.
local page = redis.call('HSCAN', state, redis.call('HGET', state, 'cursor') or '0', 'MATCH', 'entry:*', 'COUNT', 200)
redis.call('HSET', state, 'cursor', page[1])
for index = 1, #page[2], 2 do
  local id = string.sub(page[2][index], 7)
  if #redis.call('XRANGE', queue, id, id) == 0 then
    note_ended(id)
  end
end
dispatch()
return consumers

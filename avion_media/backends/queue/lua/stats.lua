-- A queue at one moment.
-- KEYS: queue, state, waiting, tenants, delayed
-- Returns a JSON object with the fields of `QueueStats`.
local group = group_info()
local pending = group and field(group, 'pending') or 0
local consumers = 0
local silent_ms = tonumber(redis.call('HGET', state, 'silent_ms') or 60000)
for _, consumer in ipairs(group and redis.call('XINFO', 'CONSUMERS', queue, GROUP) or {}) do
  if field(consumer, 'name') ~= UNCONFIRMED and field(consumer, 'idle') < silent_ms then
    consumers = consumers + 1
  end
end

local now = now_s()
local oldest, oldest_waiting, oldest_tenant = now, now, ''
local first = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1]
if first then
  oldest = tonumber(string.match(first[1], '^%d+')) / 1000
  oldest = math.min(oldest, tonumber(value_of(first[2], 'first_seen') or '') or oldest)
end
-- Of a hundred tenants: all of thousands would hold up the server.
for _, tenant in ipairs(redis.call('ZRANGE', tenants, 0, 99)) do
  local member = tenant ~= '' and first_waiting(tenant)
  if member then
    local at = tonumber(string.sub(member, #tenant + 2, #tenant + 16)) / 1000
    if at <= oldest_waiting then
      oldest_waiting, oldest_tenant = at, tenant
    end
  end
end
oldest = math.min(oldest, oldest_waiting)
local pause = redis.call('HMGET', state, 'paused', 'paused_by', 'paused_note', 'paused_until', 'slots', 'tenant_cap',
  'videos', 'video_cap', 'running:' .. oldest_tenant)
local entries, in_line = redis.call('XLEN', queue), math.max(0, redis.call('ZCARD', waiting) - 1)
return cjson.encode({
  depth = entries + in_line,
  lag = math.max(0, entries - pending) + in_line, -- exact, because completed entries are removed; XINFO's lag can be nil
  pending = pending,
  oldest_age_s = now - oldest,
  delayed = redis.call('ZCARD', KEYS[5]),
  next_due = tonumber(redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]),
  dead_letters = redis.call('XLEN', dead_letters),
  consumers = consumers,
  tenants = redis.call('ZCOUNT', tenants, '-inf', '(' .. DRAINED),
  paused_since = tonumber(pause[1] or 0),
  paused_by = pause[2] or '',
  paused_note = pause[3] or '',
  paused_until = tonumber(pause[4] or 0),
  slots = tonumber(pause[5] or 0),
  tenant_cap = tonumber(pause[6] or 0),
  videos = tonumber(pause[7] or 0),
  video_cap = tonumber(pause[8] or 0),
  running_of_oldest_tenant = tonumber(pause[9] or 0),
  oldest_tenant = oldest_tenant,
  of_oldest_tenant = oldest_tenant == '' and 0
    or redis.call('ZLEXCOUNT', waiting, '[' .. oldest_tenant .. '\0', '(' .. oldest_tenant .. '\1'),
  waiting = in_line,
})

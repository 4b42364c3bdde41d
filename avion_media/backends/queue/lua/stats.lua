-- A queue at one moment.
-- KEYS: queue, state, waiting, tenants, delayed
-- Returns a JSON object with the fields of `QueueStats`.
local group = group_info()
local pending = group and field(group, 'pending') or 0
local consumers = math.max(0, (group and field(group, 'consumers') or 0) - 1) -- without UNCONFIRMED

local now = now_s()
local oldest = now
local first = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1]
if first then
  oldest = tonumber(string.match(first[1], '^%d+')) / 1000
  oldest = math.min(oldest, tonumber(value_of(first[2], 'first_seen') or '') or oldest)
end
-- Of a hundred tenants: all of thousands would hold up the server.
for _, tenant in ipairs(redis.call('ZRANGE', tenants, 0, 99)) do
  local member = tenant ~= '' and first_waiting(tenant)
  if member then
    oldest = math.min(oldest, tonumber(string.sub(member, #tenant + 2, #tenant + 16)) / 1000)
  end
end
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
  paused_since = tonumber(redis.call('HGET', state, 'paused') or 0),
  waiting = in_line,
})

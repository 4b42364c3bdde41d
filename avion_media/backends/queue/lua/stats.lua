-- A queue at one moment.
-- KEYS: queue, state, waiting, tenants, delayed
-- Returns JSON: [entries of the stream, pending, waiting, tenants, age of the oldest in s, delayed, due of the first or -1,
-- dead letters, consumers, paused since or 0]
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
local due = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
return cjson.encode({
  redis.call('XLEN', queue), pending, math.max(0, redis.call('ZCARD', waiting) - 1),
  redis.call('ZCOUNT', tenants, '-inf', '(' .. DRAINED), seconds(now - oldest),
  redis.call('ZCARD', KEYS[5]), due[2] or '-1', redis.call('XLEN', dead_letters), consumers,
  redis.call('HGET', state, 'paused') or '0',
})

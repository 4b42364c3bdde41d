-- A queue at one moment.
-- KEYS: queue, delayed, dead letters   ARGV: group, the shelf (a consumer by name only)
-- Returns {depth, pending, age of the oldest entry in s or '', delayed, due of the first or '', dead letters, consumers}
local pending, consumers = 0, 0
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then -- else there is no stream
  for _, group in ipairs(groups) do
    if field(group, 'name') == ARGV[1] then
      pending = field(group, 'pending')
      for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
        consumers = consumers + (field(consumer, 'name') == ARGV[2] and 0 or 1)
      end
    end
  end
end

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local age = ''
if oldest then
  age = seconds(math.max(0, now_s() - tonumber(string.match(oldest[1], '^%d+')) / 1000))
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {
  redis.call('XLEN', KEYS[1]), pending, age,
  redis.call('ZCARD', KEYS[2]), first[2] or '',
  redis.call('XLEN', KEYS[3]), consumers,
}

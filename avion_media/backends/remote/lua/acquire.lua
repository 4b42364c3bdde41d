-- Decide whether one more fetch from this host may begin. A server whose breaker is open gets no request; after its pause it
-- gets one probe. Otherwise the host gets as many fetches as it has slots. A slot that is never released expires.
-- KEYS: breaker of the server (hash), slots of the host (sorted set)
-- ARGV: token of the fetch, slots, lifetime of a slot in s, wait for a slot in s
-- Returns 'in' or 'probe', or 'paused' or 'full' with the seconds to wait.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local slots = tonumber(ARGV[2])

local paused_until = tonumber(redis.call('HGET', KEYS[1], 'paused_until') or '0')
if now < paused_until then
  return { 'paused', string.format('%.3f', paused_until - now) }
end
local probe_until = tonumber(redis.call('HGET', KEYS[1], 'probe_until') or '0')
if now < probe_until then
  return { 'paused', ARGV[4] }
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now))
if redis.call('ZCARD', KEYS[2]) >= slots then
  return { 'full', ARGV[4] }
end
local slot_until = now + tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.3f', slot_until), ARGV[1])
local life_ms = math.ceil(tonumber(ARGV[3]) * 1000)
if redis.call('PTTL', KEYS[2]) < life_ms then
  redis.call('PEXPIRE', KEYS[2], life_ms)
end
if paused_until > 0 then
  redis.call('HSET', KEYS[1], 'probe', ARGV[1], 'probe_until', string.format('%.3f', slot_until))
  return { 'probe', '0' }
end
return { 'in', '0' }

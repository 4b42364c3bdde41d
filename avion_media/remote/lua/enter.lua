-- May one more fetch from this host begin? A server that is left in peace is asked by nobody; when its pause is over, by
-- one probe; otherwise by as many as the host has slots. A slot that is never given back is free again after its life.
-- KEYS: trouble of the server (hash), slots of the host (sorted set), those turned away (string)
-- ARGV: token of the fetch, slots, life of a slot in s, shortest and longest wait for one in s
-- Returns 'in' or 'probe', or 'paused' or 'full' with the seconds to wait.
-- The more were turned away lately, the later each comes again: a crowd for one host must not knock all the time.
local function turned_away(answer, slots)
  local waiting = redis.call('INCR', KEYS[3])
  redis.call('PEXPIRE', KEYS[3], 60000)
  local wait = math.min(tonumber(ARGV[5]), math.max(1, waiting / slots) * tonumber(ARGV[4]))
  return { answer, string.format('%.3f', wait) }
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local paused_until = tonumber(redis.call('HGET', KEYS[1], 'paused_until') or '0')
if now < paused_until then
  return { 'paused', string.format('%.3f', paused_until - now) }
end
local probe_until = tonumber(redis.call('HGET', KEYS[1], 'probe_until') or '0')
if now < probe_until then
  return turned_away('paused', 1)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now))
local slots = tonumber(ARGV[2])
if redis.call('ZCARD', KEYS[2]) >= slots then
  return turned_away('full', slots)
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

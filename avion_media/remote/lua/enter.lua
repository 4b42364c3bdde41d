-- May one more fetch from this host begin? A server that is left in peace is asked by nobody; when its pause is over, by
-- one probe; otherwise by as many as the host has slots. A slot that is never given back is free again after its life.
-- KEYS: trouble of the server (hash), slots of the host (sorted set), the line for a slot (hash)
-- ARGV: token of the fetch, slots, life of a slot in s, shortest and longest wait for one in s
-- Returns 'in' or 'probe', or 'paused' or 'full' with the seconds to wait.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local slots = tonumber(ARGV[2])

-- Whoever is turned away comes again when a slot should be free for it, judging by how long fetches take and how many
-- were turned away before. All at once would be a crowd that knocks all the time.
local function turned_away(answer)
  local line = redis.call('HMGET', KEYS[3], 'until', 'mean')
  local step = math.max(0.02, tonumber(line[2] or '1') / slots)
  local turn = math.max(now + tonumber(ARGV[4]), tonumber(line[1] or '0') + step)
  turn = math.min(turn, now + tonumber(ARGV[5]))
  redis.call('HSET', KEYS[3], 'until', string.format('%.3f', turn))
  redis.call('PEXPIRE', KEYS[3], math.ceil((turn - now + 60) * 1000))
  return { answer, string.format('%.3f', turn - now) }
end

local paused_until = tonumber(redis.call('HGET', KEYS[1], 'paused_until') or '0')
if now < paused_until then
  return { 'paused', string.format('%.3f', paused_until - now) }
end
local probe_until = tonumber(redis.call('HGET', KEYS[1], 'probe_until') or '0')
if now < probe_until then
  return turned_away('paused')
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now))
if redis.call('ZCARD', KEYS[2]) >= slots then
  return turned_away('full')
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

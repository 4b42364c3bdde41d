-- End a fetch: release its slot, and remember its result for the server.
-- KEYS: as in acquire.lua
-- ARGV: token, outcome, requested pause in s, failures in a row that open the breaker, shortest and longest pause in s,
-- cause
-- Outcomes: 'answered' (any response); 'failed' (the server has a problem); 'asked' (it requested a pause); 'unknown' (this
-- service stopped or failed, which says nothing about the server).
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREM', KEYS[2], ARGV[1])
local paused_until = tonumber(redis.call('HGET', KEYS[1], 'paused_until') or '0')
local was_probe = redis.call('HGET', KEYS[1], 'probe') == ARGV[1]
if was_probe then
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
end
if ARGV[2] == 'unknown' then
  return 0
end
if ARGV[2] == 'answered' then
  if now < paused_until and not was_probe then
    redis.call('HDEL', KEYS[1], 'failures') -- begun before the pause: a requested pause is kept
  else
    redis.call('DEL', KEYS[1])
  end
  return 0
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local pause = 0
if ARGV[2] == 'asked' then
  pause = tonumber(ARGV[3])
elseif was_probe or (failures >= tonumber(ARGV[4]) and now >= paused_until) then
  local pauses = redis.call('HINCRBY', KEYS[1], 'pauses', 1)
  pause = math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ math.min(pauses - 1, 20))
end
if pause > 0 then
  paused_until = math.max(paused_until, now + pause)
  redis.call('HSET', KEYS[1], 'paused_until', string.format('%.3f', paused_until))
end
redis.call('HSET', KEYS[1], 'cause', ARGV[7])
redis.call('PEXPIRE', KEYS[1], math.ceil((math.max(0, paused_until - now) + 3600) * 1000))
return 1

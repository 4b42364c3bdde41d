-- Mark a medium as deleted. Repeating it makes the mark live longer, and it outlives an earlier undoing.
-- KEYS: tombstone, undoing   ARGV: media id, life in ms, channel, when it was said in ms (or ''), else how long ago in ms
-- Returns 1 when it is new, 0 when it is not, -1 when it was said before its undoing: that stands.
local undone_at = tonumber(redis.call('GET', KEYS[2]) or 0)
if undone_at > 0 and (tonumber(ARGV[4]) or math.floor(now_s() * 1000) - tonumber(ARGV[5])) < undone_at then
  return -1
end
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], before or seconds(now_s()), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
if before then
  return 0
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1

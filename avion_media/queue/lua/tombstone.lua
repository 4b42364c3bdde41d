-- Mark a medium as deleted. Repeating it makes the mark live longer, and it outlives an earlier undoing.
-- KEYS: tombstone, undoing   ARGV: media id, life in ms, channel
-- Returns 1 when it is new.
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], before or seconds(now_s()), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
if before then
  return 0
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1

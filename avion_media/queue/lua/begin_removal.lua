-- The point of no return of a deletion: from here on it cannot be undone, and its medium counts as deleted even if nobody
-- had marked it (a foreign producer's task, or a reader that died after it had remembered the removal).
-- KEYS: tombstone, undoing, removal   ARGV: media id, life in ms, channel, whether an undoing stops it ('1')
-- Returns 0 when it was undone.
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], before or seconds(now_s()), 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
if not before then
  redis.call('PUBLISH', ARGV[3], ARGV[1])
end
return 1

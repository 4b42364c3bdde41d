-- Take a deletion back, unless its removal has begun, or what was written after it is just being taken back. The undoing
-- stays on record with its time, so that a removal that was remembered before, and a drop that is read again, find it.
-- KEYS: tombstone, undoing, removal, taking back   ARGV: media id, life of the record in ms, channel
-- Returns 1 when it was taken back.
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 or redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[2], math.floor(now_s() * 1000), 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1

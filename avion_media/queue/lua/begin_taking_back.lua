-- What was written after a deletion is about to be taken back: until that is over, or for so long, no undoing.
-- KEYS: tombstone, taking back   ARGV: life in ms
-- Returns 0 when the deletion was undone meanwhile: then it stays.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[2], 1, 'PX', ARGV[1])
return 1

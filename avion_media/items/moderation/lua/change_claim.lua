-- Change one field of a hash, if it is still as it was read. Empty stands for no field.
-- KEYS: claims   ARGV: media id, claim as it was read, new claim
-- Returns 1 if it was changed.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1

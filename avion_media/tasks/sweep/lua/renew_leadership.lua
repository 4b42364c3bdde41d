-- Keep the lead, if it is ours.
-- KEYS: leader   ARGV: token, life in ms
-- Returns 1 when it was.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

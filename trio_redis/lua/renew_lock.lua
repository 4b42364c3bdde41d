-- Extend the lock, if this token holds it.
-- KEYS: lock   ARGV: token, life in ms
-- Returns 1 if it does.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

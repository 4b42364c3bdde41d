-- Stop being the janitor: another process may begin at once.
-- KEYS: janitor   ARGV: token
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0

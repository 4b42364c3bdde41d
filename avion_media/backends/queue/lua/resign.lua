-- Stop being the janitor: another process may begin at once.
-- KEYS: janitor   ARGV: token
return string.match(redis.call('GET', KEYS[1]) or '', '^%d+ (.*)$') == ARGV[1] and redis.call('DEL', KEYS[1]) or 0

-- Stay the janitor of a queue. Nothing depends on it that there is one only: each of its steps is a script.
-- KEYS: janitor   ARGV: token, life of the lease in ms
-- Returns whether this process still is the janitor.
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0

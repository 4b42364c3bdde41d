-- Stay the janitor of a queue. Nothing depends on it that there is one only: each of its steps is a script.
-- KEYS: janitor   ARGV: token, life of the lease in ms, how many consumers the queue has and the token
-- Returns whether this process still is the janitor.
if string.match(redis.call('GET', KEYS[1]) or '', '^%d+ (.*)$') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return 1

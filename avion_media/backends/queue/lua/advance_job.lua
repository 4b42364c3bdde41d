-- Note how far a bulk job is. One that was cancelled, or replaced by another, stays as it is.
-- KEYS: job, its items
-- ARGV: job's id, its state from now on, cursor, done meanwhile, refused meanwhile, a problem or '', how long one that has
-- ended is kept in ms, number of items that are done, these items …, new items …
-- Returns whether it was noted.
local found = redis.call('HMGET', KEYS[1], 'job_id', 'state')
if found[1] ~= ARGV[1] or found[2] ~= 'running' and found[2] ~= 'paused' then
  return 0
end
local last_done = 8 + tonumber(ARGV[8])
for index = 9, #ARGV do
  if index <= last_done then
    redis.call('ZREM', KEYS[2], ARGV[index])
  else
    redis.call('ZADD', KEYS[2], 0, ARGV[index])
  end
end
redis.call('HSET', KEYS[1], 'cursor', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'done', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'refused', ARGV[5])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'problem', ARGV[6])
end
if ARGV[2] ~= 'running' then -- else an operator may have paused it meanwhile
  redis.call('HSET', KEYS[1], 'state', ARGV[2])
end
if ARGV[2] == 'done' then
  redis.call('UNLINK', KEYS[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
return 1

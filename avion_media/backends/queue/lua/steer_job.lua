-- Pause, resume or cancel a bulk job.
-- KEYS: job, its items   ARGV: its state from now on, how long one that has ended is kept in ms, states that this can follow …
-- Returns whether the job was in one of those states.
local was = redis.call('HGET', KEYS[1], 'state')
for index = 3, #ARGV do
  if was == ARGV[index] then
    redis.call('HSET', KEYS[1], 'state', ARGV[1])
    if ARGV[1] == 'cancelled' then
      redis.call('UNLINK', KEYS[2])
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    return 1
  end
end
return 0

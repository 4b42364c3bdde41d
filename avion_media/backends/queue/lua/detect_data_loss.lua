-- When tasks of this queue may last have been lost. Either its group had to be created again, or another server process
-- serves it than before (INFO's run_id): it lacks what the former one neither replicated nor wrote to disk.
-- KEYS: state   ARGV: whether to remember the server process ('1'), the server process
-- Returns Unix seconds, or nil.
local lost = redis.call('HGET', KEYS[1], 'lost')
local run = ARGV[2]
if run == 'unknown' then
  return lost -- no loss is assumed
end
local known = redis.call('HGET', KEYS[1], 'run_id')
if known and known ~= run then
  lost = seconds(now_s())
end
if ARGV[1] == '1' and known ~= run then
  redis.call('HSET', KEYS[1], 'run_id', run)
  if known then
    redis.call('HSET', KEYS[1], 'lost', lost)
  end
end
return lost

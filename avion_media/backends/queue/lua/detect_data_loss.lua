-- When tasks of this queue may last have been lost. Either its group had to be created again, or another server process
-- serves it than before (INFO's run_id): it lacks what the former one neither replicated nor wrote to disk.
-- KEYS: state   ARGV: whether to remember the server process ('1')
-- Returns Unix seconds, or nil.
local lost = redis.call('HGET', KEYS[1], 'lost')
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') -- without a run_id no loss is assumed
if not run then
  return lost
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

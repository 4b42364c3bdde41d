-- When tasks of this queue may last have been lost: its group had to be made anew, or another server process is in charge
-- of it than before (INFO's run_id): what that one had acknowledged, and neither replicated nor written to disk, is gone.
-- KEYS: state   ARGV: whether to remember who is in charge ('1')
-- Returns Unix seconds, or nil.
local lost = redis.call('HGET', KEYS[1], 'lost')
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') -- a server that does not tell is trusted
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

-- Replay some dead letters of a bulk job: those that were there when it was started, oldest first, at its rate.
-- KEYS: queue, state, waiting, tenants, dead letters, job   ARGV: most of them at once
-- Returns how many were replayed, or nil if there is no job.
local job = redis.call('HMGET', KEYS[6], 'through', 'after', 'error', 'rate', 'at')
if not job[1] then
  return nil
end
local now = now_s()
local due = math.floor((now - tonumber(job[5])) * tonumber(job[4]))
due = math.min(due, tonumber(ARGV[1]))
if due <= 0 then
  return 0
end
local replayed, after = 0, job[2]
local page = redis.call('XRANGE', KEYS[5], '(' .. after, job[1], 'COUNT', ARGV[1])
for _, dead_letter in ipairs(page) do
  if replayed == due then
    break
  end
  after = dead_letter[1]
  local found = string.find(string.lower(value_of(dead_letter[2], 'error') or ''), string.lower(job[3]), 1, true)
  if found then
    replay(dead_letter)
    replayed = replayed + 1
  end
end
redis.call('HSET', KEYS[6], 'after', after, 'at', seconds(now))
redis.call('HINCRBY', KEYS[6], 'replayed', replayed)
if #page == 0 then
  redis.call('DEL', KEYS[6])
end
return replayed

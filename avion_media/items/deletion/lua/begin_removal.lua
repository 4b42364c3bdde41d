-- Begin a removal. From here on the deletion cannot be undone. Only this script writes the state removing.
-- KEYS: record, completeness of its bucket   ARGV: generation, media id, server process
-- Returns one of:
--   {'go'}
--   {'void'}                      the task belongs to another deletion, and is ignored
--   {'early', ms until it is due}
--   {'unknown'}                   records may be lost: perhaps the deletion was undone
if not is_complete(KEYS[2]) then
  return { 'unknown' }
end
local record = redis.call('HMGET', KEYS[1], 'state', 'generation', 'due')
local state, generation, due = record[1], record[2], record[3]
if not state then
  redis.call('HSET', KEYS[1], 'state', 'removing', 'generation', ARGV[1], 'due', ARGV[1], 'absorbed', '')
  announce(ARGV[2])
  return { 'go' }
end
if state == 'undeleted' or generation ~= ARGV[1] then
  return { 'void' }
end
if state == 'marked' then
  local left_ms = tonumber(due) - now_ms()
  if left_ms > 0 then
    return { 'early', whole(left_ms) }
  end
  redis.call('HSET', KEYS[1], 'state', 'removing')
end
return { 'go' }

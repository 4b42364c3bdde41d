-- Put a dead letter back on its queue with all attempts open, and its history.
-- KEYS: queue, dead letters   ARGV: dead letter's id
-- Returns the new entry's id, or nil.
local letter = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not letter then
  return nil
end
-- What counts against a task, and does not any more.
local DONE = { attempts = true, deaths = true, failed_at = true, replayed_at = true, unavailable_since = true }
local entry, replays = {}, 1
local fields = judged(letter[2]) and truncated(letter[2]) or letter[2] -- perhaps another service wrote it
for index = 1, #fields, 2 do
  local name, value = fields[index], fields[index + 1]
  if name == 'replays' then
    replays = (tonumber(value) or 0) + 1
  elseif not DONE[name] then
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
end
entry[#entry + 1] = 'replays'
entry[#entry + 1] = replays
entry[#entry + 1] = 'replayed_at'
entry[#entry + 1] = seconds(now_s())
local id = append(KEYS[1], entry)
redis.call('XDEL', KEYS[2], ARGV[1])
return id

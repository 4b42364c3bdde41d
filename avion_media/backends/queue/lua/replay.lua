-- Put a dead letter back on its queue, with all attempts open and its history.
-- KEYS: queue, state, waiting, tenants   ARGV: dead letter's id
-- Returns 1, or 0 if there is no such dead letter.
local dead_letter = redis.call('XRANGE', dead_letters, ARGV[1], ARGV[1])[1]
if not dead_letter then
  return 0
end
-- Fields that count against a task: a replay removes them.
local DONE = {
  attempts = true, crashed_workers = true, failed_at = true, replayed_at = true, unavailable_since = true,
}
local entry, replays = {}, 1
local fields = excess_of_any(dead_letter[2]) and truncated(dead_letter[2]) or dead_letter[2] -- perhaps another service wrote it
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
entry[#entry + 1] = string.format('%.0f', replays)
entry[#entry + 1] = 'replayed_at'
entry[#entry + 1] = seconds(now_s())
add(entry)
redis.call('XDEL', dead_letters, ARGV[1])
return 1

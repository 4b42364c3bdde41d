-- Queue tasks of the delayed set that are due; each exactly once, however many replicas promote. Each member is read by
-- itself: one that cannot be a task becomes a dead letter, and holds up no other.
-- KEYS: queue, state, waiting, tenants, delayed   ARGV: most of them at once
-- Returns how many members left the delayed set.

-- The fields of a member as a flat list.
local function read(member)
  local entry, task = {}, cjson.decode(member)
  for name, value in pairs(task) do
    if type(name) == 'string' and (type(value) == 'string' or type(value) == 'number') then
      entry[#entry + 1] = name
      entry[#entry + 1] = type(value) == 'number' and string.format('%.17g', value) or value
    end
  end
  return entry
end

local due = redis.call('ZRANGE', KEYS[5], '-inf', seconds(now_s()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local readable, entry = pcall(read, member)
  local why = not (readable and #entry > 0) and 'not a JSON object with fields' or excess_of_any(entry)
  if not why then
    add(entry)
  else
    dead_letter_malformed(dead_letters, readable and #entry > 0 and entry or { 'member', member }, why)
  end
  redis.call('ZREM', KEYS[5], member)
end
return #due

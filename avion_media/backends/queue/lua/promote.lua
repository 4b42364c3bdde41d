-- Queue tasks of the delayed set that are due; each exactly once, however many replicas promote. Each member is read by
-- itself: one that cannot be a task becomes a dead letter, and holds up no other.
-- KEYS: queue, state, waiting, tenants, delayed   ARGV: most of them at once
-- Returns how many members left the delayed set.

local function is_entry(decoded)
  local is_flat = type(decoded) == 'table' and #decoded > 0 and #decoded % 2 == 0
  for _, part in ipairs(is_flat and decoded or {}) do
    is_flat = is_flat and type(part) == 'string'
  end
  return is_flat
end

local due = redis.call('ZRANGE', KEYS[5], '-inf', seconds(now_s()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local _, entry = pcall(cjson.decode, member)
  local why = not is_entry(entry) and 'not a JSON array of fields' or excess_of_any(entry)
  if not why then
    add(entry)
  else
    dead_letter_malformed(is_entry(entry) and entry or { 'member', member }, why)
  end
  redis.call('ZREM', KEYS[5], member)
end
return #due

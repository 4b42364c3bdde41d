-- Forget consumers that are gone. XGROUP DELCONSUMER destroys what a consumer holds: only those that hold nothing.
-- KEYS: queue   ARGV: group, idle ms
-- Returns how many.
local rows = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if rows.err then
  return 0 -- no stream, or no group: the next reader creates it and notes the loss
end
local removed = 0
for _, row in ipairs(rows) do
  if field(row, 'pending') == 0 and field(row, 'idle') >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field(row, 'name'))
    removed = removed + 1
  end
end
return removed

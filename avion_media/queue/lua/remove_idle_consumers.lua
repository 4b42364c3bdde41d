-- Forget consumers that are gone. XGROUP DELCONSUMER destroys what a consumer holds: only those that hold nothing.
-- KEYS: queue   ARGV: group, idle ms
-- Returns how many.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local removed = 0
for _, row in ipairs(with_group(KEYS[1], ARGV[1], nil, 'XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if field(row, 'pending') == 0 and field(row, 'idle') >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field(row, 'name'))
    removed = removed + 1
  end
end
return removed

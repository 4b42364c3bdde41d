-- Move entries that other services added beyond the runway to the backlog, each to its tenant.
-- KEYS: queue, state, waiting, tenants   ARGV: most of them at once
-- Returns how many were moved.
local spared = settings().paused and 0 or RUNWAY
local count_of, last = undelivered()
if count_of <= spared then
  return 0
end
local moved = 0
for index, entry in ipairs(redis.call('XRANGE', queue, '(' .. last, '+', 'COUNT', spared + tonumber(ARGV[1]))) do
  if index > spared and redis.call('HEXISTS', state, 'entry:' .. entry[1]) == 0 then
    move_to_backlog(entry[1], entry[2])
    moved = moved + 1
  end
end
dispatch()
return moved

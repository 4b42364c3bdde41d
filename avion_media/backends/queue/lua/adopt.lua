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
  local id, fields = entry[1], entry[2]
  if index > spared and redis.call('HEXISTS', state, 'entry:' .. id) == 0 then
    local why = excess_of_any(fields)
    if why then
      dead_letter_malformed(dead_letters, fields, why)
    else
      keep_origin(fields, id)
      wait_in_line(fields)
    end
    redis.call('XDEL', queue, id)
    moved = moved + 1
  end
end
dispatch()
return moved

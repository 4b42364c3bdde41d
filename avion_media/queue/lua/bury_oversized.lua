-- Make a dead letter of an entry that another service wrote beyond the bounds. It need not be read by anybody for that.
-- KEYS: queue, dead letters   ARGV: group, id, consumer, deliveries, most dead letters kept
-- Returns 1 when it was beyond the bounds, 0 when it is a task like others, or in other hands.
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
local why = entry and judged(entry[2])
if not why then
  return 0
end
bury(KEYS[2], entry[2], why, ARGV[5])
remove(KEYS[1], ARGV[1], ARGV[2])
return 1

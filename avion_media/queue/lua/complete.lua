-- The task's effect is durable: the entry goes.
-- KEYS: queue [, marker]   ARGV: group, id, consumer, deliveries, task id, how long its marker stays in ms
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
remove(KEYS[1], ARGV[1], ARGV[2])
release(KEYS[2], ARGV[5], ARGV[6])
return 1

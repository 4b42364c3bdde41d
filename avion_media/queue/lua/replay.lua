-- Put a dead letter back on its queue.
-- KEYS: queue, state, waiting, tenants, dead letters   ARGV: dead letter's id
-- Returns 1, or 0 if there is no such dead letter.
local dead_letter = redis.call('XRANGE', KEYS[5], ARGV[1], ARGV[1])[1]
if not dead_letter then
  return 0
end
replay(dead_letter)
return 1

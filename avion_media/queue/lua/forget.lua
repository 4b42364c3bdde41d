-- Remove a status or a tombstone, and tell the watchers.
-- KEYS: key   ARGV: media id, channel
local removed = redis.call('DEL', KEYS[1])
if removed == 1 then
  redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return removed

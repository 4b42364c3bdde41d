-- Remove a status, and wake its watchers.
-- KEYS: status   ARGV: media id, channel of changes
local removed = redis.call('DEL', KEYS[1])
if removed == 1 then
  redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return removed

-- Remove a status, and wake its watchers.
-- KEYS: status   ARGV: media id
local removed = redis.call('DEL', KEYS[1])
if removed == 1 then
  redis.call('PUBLISH', 'media_status:' .. ARGV[1], '')
end
return removed

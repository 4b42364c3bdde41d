-- Forget that a remote media item failed, unless this failure still prevents a new fetch. A block is no failure of a fetch.
-- KEYS: status, failure
-- Returns 1 if it was forgotten.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local status = redis.call('GET', KEYS[1])
local is_failure = status and string.sub(status, 1, 1) == 'F' and string.match(status, '^F (%S*)') ~= 'blocked'
return is_failure and redis.call('DEL', KEYS[1]) or 0

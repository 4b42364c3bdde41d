-- Forget that a remote medium failed, unless its URL must not be fetched yet because of that.
-- KEYS: status, failure
-- Returns 1 when it was forgotten.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local status = redis.call('GET', KEYS[1])
return status and string.sub(status, 1, 1) == 'F' and redis.call('DEL', KEYS[1]) or 0

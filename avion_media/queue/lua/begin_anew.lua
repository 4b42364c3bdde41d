-- Forget that a remote medium failed, unless that is still held against its URL: then it was not long ago.
-- KEYS: status, failure
-- Returns 1 when it was forgotten.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local before = redis.call('GET', KEYS[1])
if before then
  local readable, status = pcall(cjson.decode, before)
  if readable and type(status) == 'table' and status.state == 'FAILED' then
    return redis.call('DEL', KEYS[1])
  end
end
return 0

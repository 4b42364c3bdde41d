-- Say how a medium is doing. A tombstone is never overwritten, what is ready stays ready, and what has failed does not
-- become PROCESSING again by a late word (forget it first, to begin anew).
-- KEYS: status, tombstone   ARGV: media id, state, status as JSON, life in ms, channel
-- Returns 1 when it was taken.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local before = redis.call('GET', KEYS[1])
if before and ARGV[2] ~= 'READY' then
  local readable, status = pcall(cjson.decode, before)
  if readable and type(status) == 'table' then
    if status.state == 'READY' or (status.state == 'FAILED' and ARGV[2] == 'PROCESSING') then
      return 0
    end
  end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1

-- Say how a medium is doing. What is deleted gets none, what is ready stays ready, and what has failed does not
-- become PROCESSING again by a late word (forget it first, to begin anew), nor fail for another reason: the upload is
-- gone by then, so a repeated attempt would say it was never there. Only our own failures are open to a later word, since
-- an operator may replay their tasks.
-- READY comes over a failure only where its attempt knew of that one (or knows of all: *): else it was overtaken by it.
-- KEYS: status, record of the deletion   ARGV: media id, state, status as JSON, life in ms, channel, reason of the failure known or *,
-- reasons that are failures of our own
-- Returns 1 when it was taken.
local deletion = redis.call('HGET', KEYS[2], 'state')
if deletion and deletion ~= 'undeleted' then
  return 0
end
local before = redis.call('GET', KEYS[1])
if before and before ~= ARGV[3] then
  local readable, status = pcall(cjson.decode, before)
  if readable and type(status) == 'table' then
    local ours = false
    for index = 7, #ARGV do
      ours = ours or status.reason == ARGV[index]
    end
    if ARGV[2] == 'READY' then
      if status.state == 'FAILED' and ARGV[6] ~= '*' and ARGV[6] ~= status.reason then
        return 0
      end
    elseif status.state == 'READY' or (status.state == 'FAILED' and (ARGV[2] == 'PROCESSING' or not ours)) then
      return 0
    end
  end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1

-- Write a status. A deleted media item gets none, and READY stays. A failure stays, too: a late attempt does not make it
-- PROCESSING (forget it first), nor does it change the reason, because the upload is removed by then, and a repeated attempt
-- would report it missing. Only failures of this service can change, because an operator can replay their tasks.
-- A held media item (PROCESSING with a reason) becomes plain PROCESSING only if the caller names that reason.
-- READY replaces a failure only if its attempt knew of that failure (or of all: *); else another attempt overtook it.
-- All does not include a block: a block can come at any moment, and its end forgets the status.
-- KEYS: status, record of the deletion
-- ARGV: media id, status, lifetime in ms, known reason of what is replaced or *, reasons that are this service's
-- A status begins with the first letter of its state; after that, a failure has its reason.
-- Returns 1 if it was stored.
local deletion = redis.call('HGET', KEYS[2], 'state')
if deletion and deletion ~= 'undeleted' then
  return 0
end
local before = redis.call('GET', KEYS[1])
if before and before ~= ARGV[2] then
  local state, reason = string.match(before, '^(%u) ?(%S*)')
  local new = string.sub(ARGV[2], 1, 1)
  if state == 'R' and new ~= 'R' then
    return 0
  end
  if state == 'P' and reason ~= '' and ARGV[2] == 'P' and ARGV[4] ~= reason then
    return 0
  end
  if state == 'F' then
    local ours = false
    for index = 5, #ARGV do
      ours = ours or reason == ARGV[index]
    end
    if new == 'R' then
      if ARGV[4] ~= reason and (ARGV[4] ~= '*' or reason == 'blocked') then
        return 0
      end
    elseif new == 'P' or not ours then
      return 0
    end
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('PUBLISH', 'media_status:' .. ARGV[1], '')
return 1

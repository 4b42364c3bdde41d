-- The next entry for a consumer: one that was handed back, or else a new one.
-- KEYS: queue, watch   ARGV: group, consumer, the shelf (consumer that holds what was handed back)
-- Returns {id, deliveries, fields}, or nil.
local queue, group, consumer, shelf = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local shelved = with_group(queue, group, KEYS[2], 'XPENDING', queue, group, '-', '+', 1, shelf)[1]
if shelved then
  local claimed = redis.call('XCLAIM', queue, group, consumer, 0, shelved[1])[1]
  if claimed then -- else somebody deleted it from the stream; XCLAIM has cleared it away
    return { claimed[1], shelved[4] + 1, claimed[2] }
  end
end

local streams = with_group(queue, group, KEYS[2],
  'XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', queue, '>')
if not streams then
  return nil
end
local entry = streams[1][2][1]
return { entry[1], 1, entry[2] }

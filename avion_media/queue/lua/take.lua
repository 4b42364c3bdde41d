-- The next entry for a consumer: one that was handed back, or else a new one.
-- KEYS: queue, watch
-- ARGV: group, consumer, the shelf (consumer that holds what was handed back), most dead letters kept, dead letters
-- The stream of dead letters is no key here: it need not exist, and while a cluster moves a slot, a script waits until
-- all of its keys are on one node. It is in the queue's slot, and written only where an entry cannot be a task.
-- Returns {id, deliveries, fields}, or nil. What cannot be a task becomes a dead letter on the way.
local queue, group, consumer, shelf = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function next_entry()
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
end

for _ = 1, 16 do -- an end, so that a flood of what is none does not hold up the server
  local entry = next_entry()
  local why = entry and judged(entry[3])
  if not why then
    return entry
  end
  bury(ARGV[5], entry[3], why, ARGV[4])
  remove(queue, group, entry[1])
end
return nil

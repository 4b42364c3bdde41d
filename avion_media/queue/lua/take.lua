-- Give the next entry to a consumer.
-- KEYS: queue, state, waiting, tenants   ARGV: consumer, most dead letters kept, dead letters
-- The stream of dead letters is no key here: it might not exist, and while a cluster moves a slot, a script waits until
-- all of its keys are on one node. It is in the queue's slot, and written only where an entry cannot be a task.
-- Returns {id, deliveries, fields, who has cancelled it or ''}, or nil.
settings()
for _ = 1, 16 do -- an end, so that a flood of entries that cannot be given out does not hold up the server
  local streams = with_group(queue, GROUP, state, 'XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', 1, 'STREAMS', queue, '>')
  if not streams then
    dispatch() -- what waits although the runway is empty, waits for its turn
    return nil
  end
  local id, fields = streams[1][2][1][1], streams[1][2][1][2]
  local cancelled_by = admit(id, fields, ARGV[3], ARGV[2])
  if cancelled_by then
    dispatch()
    return { id, 1, fields, cancelled_by }
  end
end
return nil

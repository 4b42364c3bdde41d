-- Judge an entry that a blocking read has given to a consumer, as `take` does with those it gives out.
-- KEYS: queue, state, waiting, tenants   ARGV: group, id, consumer, deliveries, most dead letters kept, dead letters
-- Returns {who has cancelled it or ''} if the consumer may work on it, otherwise nil: it is a dead letter, waits for its
-- turn, or another consumer has it.
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return nil
end
local entry = redis.call('XRANGE', queue, ARGV[2], ARGV[2])[1]
local cancelled_by
if entry then
  cancelled_by = admit(ARGV[2], entry[2], ARGV[6], ARGV[5])
else
  remove(GROUP, ARGV[2])
end
dispatch()
return cancelled_by and { cancelled_by }

-- Forget consumers that are gone. XGROUP DELCONSUMER destroys what a consumer holds: only those that hold nothing.
-- KEYS: queue   ARGV: group, consumers …
-- Returns how many.
local forgotten = 0
for index = 2, #ARGV do
  local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[index])
  if #held == 0 and not held.err then -- an error: the group is gone, and its consumers with it
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[index])
    forgotten = forgotten + 1
  end
end
return forgotten

-- Look at some members of an index, and remove those whose dead letter is gone: see task_scan.py.
-- KEYS: sorted set, dead letters   ARGV: how many
for _, member in ipairs(redis.call('ZRANDMEMBER', KEYS[1], ARGV[1])) do
  local subject, id = string.match(member, '^([^%z]*)%z(.*)$')
  if subject ~= '' and #redis.call('XRANGE', KEYS[2], id, id) == 0 then
    redis.call('ZREM', KEYS[1], member)
  end
end

-- Keep a lease: idle time back to zero, no delivery counted.
-- KEYS: queue   ARGV: group, id, consumer, deliveries
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'JUSTID')

-- Keep a lease: idle time back to zero.
-- KEYS: queue, state
-- ARGV: group, id, consumer, deliveries, task id, deliveries from now on (0: the attempt has not begun)
-- Returns 1, or 2 if somebody has cancelled the task, or 0 if the lease is lost.
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
if #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'RETRYCOUNT', ARGV[6], 'JUSTID') == 0 then
  return 0
end
return redis.call('HEXISTS', KEYS[2], 'cancelled:' .. ARGV[5]) + 1

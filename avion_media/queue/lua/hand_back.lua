-- Give an entry up unfinished: it goes onto the shelf, where the next reader takes it first. The delivery that ends here
-- is not counted, so it costs neither an attempt nor a life.
-- KEYS: queue   ARGV: group, id, consumer, deliveries, shelf
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
-- An hour idle: reclaimers that know no shelf take it as well.
return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[5], 0, ARGV[2],
  'IDLE', 3600000, 'RETRYCOUNT', tonumber(ARGV[4]) - 1, 'JUSTID')

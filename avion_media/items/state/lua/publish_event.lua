-- Publish one event on stream and channel, once per dedup key, and none after the media item's deletion.
-- KEYS: stream, dedup marker, marker of the media item's deletion, number of the last event
-- ARGV: event as a JSON object, entries kept, channel, lifetime of the marker in ms
-- Returns 1 if it was published now.
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return 0
end
redis.call('SET', KEYS[2], 1, 'PX', ARGV[4])
local event = '{"seq":' .. redis.call('INCR', KEYS[4]) .. ',' .. string.sub(ARGV[1], 2)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', event)
redis.call('PUBLISH', ARGV[3], event)
return 1

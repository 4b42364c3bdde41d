-- One event, for those who listen and for those who read later; once, however often the task that says it is repeated.
-- After a deletion nothing is said of a medium any more.
-- KEYS: stream, marker of this event, marker of the medium's deletion
-- ARGV: event as JSON, entries kept, channel, marker's life in ms
-- Returns 1 when it was said now.
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return 0
end
redis.call('SET', KEYS[2], 1, 'PX', ARGV[4])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1

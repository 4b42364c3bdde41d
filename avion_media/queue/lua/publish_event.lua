-- One event, for those who listen and for those who read later.
-- KEYS: stream   ARGV: event as JSON, entries kept, channel
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[1])
return redis.call('PUBLISH', ARGV[3], ARGV[1])

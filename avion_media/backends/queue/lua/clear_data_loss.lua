-- Clear a loss of data, unless a later one was recorded.
-- KEYS: state   ARGV: the time of the loss, as recorded
if redis.call('HGET', KEYS[1], 'lost') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'lost')
end

-- The loss of the group is dealt with; one that came after it is not.
-- KEYS: state   ARGV: when it was lost, as noted
if redis.call('HGET', KEYS[1], 'lost') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'lost')
end

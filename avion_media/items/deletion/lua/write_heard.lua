-- Write messages of the channel drop_deleted to the stream of this service, each once, whichever listeners received it.
-- KEYS: stream   ARGV: life of a marker in ms, then for each message: SHA-256, lower bound of its time of issue in ms, message
-- The marker of a message holds the lower bound that was written. The same message is another one if an undelete separates
-- the two. Markers and the time of the last undelete are not among the keys: they might not exist, and while a cluster moves
-- a slot, a script waits until all of its keys are on one node. They are in the stream's slot.
local last_undelete = tonumber(redis.call('GET', '{drop_deleted}:last_undelete') or 0)
for index = 2, #ARGV, 3 do
  local marker, lower = '{drop_deleted}:heard:' .. ARGV[index], ARGV[index + 1]
  local written = redis.call('SET', marker, lower, 'NX', 'GET', 'PX', ARGV[1])
  local is_other = written and tonumber(lower) > tonumber(written) and last_undelete > tonumber(written)
  if is_other then
    redis.call('SET', marker, lower, 'PX', ARGV[1])
  end
  if is_other or not written then
    redis.call('XADD', KEYS[1], '*', 'event', ARGV[index + 2], 'lower_bound', lower)
  end
end

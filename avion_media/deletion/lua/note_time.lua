-- The records of these buckets are complete at this time: after a failover or a restart, only what was journaled since
-- then can be lost.
-- KEYS: completeness of buckets   ARGV: time in Unix milliseconds
local process = process_id()
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'process') == process then
    redis.call('HSET', key, 'as_of', ARGV[1])
  end
end

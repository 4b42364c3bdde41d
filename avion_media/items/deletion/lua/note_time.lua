-- The records of these buckets are complete at this time: after a failover or a restart, only what was journaled since
-- then can be lost.
-- KEYS: completeness of buckets
local now = whole(now_ms())
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'process') == process then
    redis.call('HSET', key, 'as_of', now)
  end
end

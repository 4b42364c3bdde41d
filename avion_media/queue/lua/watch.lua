-- Somebody is there who can renew leases. The present watch began when it was last so after a gap, in which perhaps
-- nobody could reach this server: a worker that seems dead since then gets the time of a lease to come back.
-- KEYS: state (hash of `since` and `last`, Unix seconds)   ARGV: gap in ms
local now = now_s()
local last = tonumber(redis.call('HGET', KEYS[1], 'last') or 0)
if now - last > tonumber(ARGV[1]) / 1000 then
  redis.call('HSET', KEYS[1], 'since', seconds(now))
end
redis.call('HSET', KEYS[1], 'last', seconds(now))
return 1

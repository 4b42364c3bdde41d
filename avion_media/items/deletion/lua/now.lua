-- The time of this server, and never less than that of an undelete.
-- KEYS: time of the last undelete
return whole(math.max(now_ms(), tonumber(redis.call('GET', KEYS[1]) or 0)))

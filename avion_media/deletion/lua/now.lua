-- The time of this server.
-- KEYS: any key that it holds
return whole(now_ms())

-- Give out tasks again.
-- KEYS: queue, state, waiting, tenants
local was_paused = redis.call('HDEL', state, 'paused')
redis.call('DEL', '{' .. queue .. '}:paused')
dispatch()
return was_paused

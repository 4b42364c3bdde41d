-- Give out no more tasks. What is being worked on goes on; what nobody has taken yet goes back to the backlog.
-- KEYS: queue, state, waiting, tenants
settings()
redis.call('HSET', state, 'paused', seconds(now_s()))
redis.call('SADD', '{' .. queue .. '}:paused', 1) -- for autoscalers, which count the members of a key
read_settings = nil
local _, last = undelivered()
for _, entry in ipairs(redis.call('XRANGE', queue, '(' .. last, '+', 'COUNT', 100)) do -- the janitor adopts the rest
  move_to_backlog(entry[1], entry[2])
end
return 1

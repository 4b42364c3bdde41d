-- Give out no more tasks. What is being worked on goes on; what nobody has taken yet goes back to the backlog.
-- KEYS: queue, state, waiting, tenants
settings()
redis.call('HSET', state, 'paused', seconds(now_s()))
redis.call('SADD', '{' .. queue .. '}:paused', 1) -- for autoscalers, which count the members of a key
read_settings = nil
local _, last = undelivered()
for _, entry in ipairs(redis.call('XRANGE', queue, '(' .. last, '+', 'COUNT', 100)) do -- the janitor adopts the rest
  if not excess_of_any(entry[2]) then
    keep_origin(entry[2], entry[1])
    redis.call('XDEL', queue, entry[1])
    note_ended(entry[1])
    wait_in_line(entry[2])
  end
end
return 1

-- Give out no more tasks. What is being worked on goes on; what nobody has taken yet goes back to the backlog.
-- KEYS: queue, state, waiting, tenants
-- ARGV: operator, note, seconds after which the queue is resumed (0: never)
settings()
local now, for_s = now_s(), tonumber(ARGV[3])
redis.call('HSET', state, 'paused', seconds(now), 'paused_by', ARGV[1], 'paused_note', ARGV[2],
  'paused_until', for_s > 0 and seconds(now + for_s) or 0)
redis.call('SADD', '{' .. queue .. '}:paused', 1) -- for autoscalers, which count the members of a key
read_settings = nil
local _, last = undelivered()
for _, entry in ipairs(redis.call('XRANGE', queue, '(' .. last, '+', 'COUNT', 100)) do -- the janitor adopts the rest
  move_to_backlog(entry[1], entry[2])
end
return 1

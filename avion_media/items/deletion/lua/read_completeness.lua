-- Read the completeness of buckets.
-- KEYS: completeness of buckets
-- Returns for each the replay that made its records complete, or '' while some may be lost.
local replays = {}
for index, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'process', 'replay')
  replays[index] = found[1] == process and found[2] or ''
end
return replays

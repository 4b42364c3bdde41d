-- Read records.
-- KEYS: records
-- Returns {state, generation, due, absorbed, undeleted_at, undeleted_through} for each.
local records = {}
for index, key in ipairs(KEYS) do
  records[index] = redis.call('HMGET', key, 'state', 'generation', 'due', 'absorbed', 'undeleted_at', 'undeleted_through')
end
return records

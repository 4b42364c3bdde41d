-- Read records.
-- KEYS: records
-- Returns {state, generation, due, absorbed, undeleted_at, undeleted_through, unjournaled} for each.
local records = {}
for index, key in ipairs(KEYS) do
  records[index] = redis.call('HMGET', key, 'state', 'generation', 'due', 'absorbed', 'undeleted_at', 'undeleted_through',
    'unjournaled')
end
return records

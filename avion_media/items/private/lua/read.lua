-- Read the generations of revocations.
-- KEYS: revocations
-- Returns the generation of each, '0' if there is none.
local generations = {}
for index, key in ipairs(KEYS) do
  generations[index] = redis.call('HGET', key, 'generation') or '0'
end
return generations

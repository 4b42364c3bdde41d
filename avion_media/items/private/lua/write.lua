-- Write revocations, unless there is a later one of the same media item.
-- KEYS: revocations   ARGV: lifetime in ms, then for each: generation, generation of tokens of all, 'tag generation …'
local MANY = 2000  -- values of one command: Lua can unpack 8,000

for index, key in ipairs(KEYS) do
  local first = 3 * index - 1
  if tonumber(ARGV[first]) > tonumber(redis.call('HGET', key, 'generation') or -1) then
    local fields = {'generation', ARGV[first], 'all', ARGV[first + 1]}
    for word in string.gmatch(ARGV[first + 2], '%x+') do
      fields[#fields + 1] = word
    end
    redis.call('DEL', key)
    for start = 1, #fields, MANY do
      redis.call('HSET', key, unpack(fields, start, math.min(start + MANY - 1, #fields)))
    end
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return {}

-- Write revocations, unless there is a later one of the same media item.
-- KEYS: revocations   ARGV: lifetime in ms, then for each: generation, generation of tokens of all, 'tag=generation …'
for index, key in ipairs(KEYS) do
  local first = 3 * index - 1
  if tonumber(ARGV[first]) > tonumber(redis.call('HGET', key, 'generation') or -1) then
    redis.call('DEL', key)
    redis.call('HSET', key, 'generation', ARGV[first], 'all', ARGV[first + 1])
    for tag, generation in string.gmatch(ARGV[first + 2], '(%x+)=(%d+)') do
      redis.call('HSET', key, tag, generation)
    end
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return {}

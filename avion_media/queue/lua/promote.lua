-- Move tasks that are due from the delayed set to the stream; each exactly once, whoever else promotes.
-- KEYS: queue, delayed, dead letters   ARGV: most of them at once, most dead letters kept, error of what is none
-- Returns how many members left the delayed set.
local due = redis.call('ZRANGE', KEYS[2], '-inf', seconds(now_s()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local entry = {}
  local readable, task = pcall(cjson.decode, member)
  if readable and type(task) == 'table' then
    for name, value in pairs(task) do
      if type(name) == 'string' and (type(value) == 'string' or type(value) == 'number') then
        entry[#entry + 1] = name
        entry[#entry + 1] = value
      end
    end
  end
  if #entry > 0 then
    redis.call('XADD', KEYS[1], '*', unpack(entry))
  else
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'member', member,
      'error', ARGV[3], 'attempts', '0', 'failed_at', seconds(now_s()))
  end
  redis.call('ZREM', KEYS[2], member)
end
return #due

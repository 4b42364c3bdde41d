-- Return the members of an index that begin with one of these subjects and NUL: see task_scan.py.
-- KEYS: sorted set   ARGV: most members, the last one that was found of the first subject or '', subjects
local found = {}
for index = 3, #ARGV do
  local first = index == 3 and ARGV[2] ~= '' and '(' .. ARGV[2] or '[' .. ARGV[index] .. '\0'
  local left = tonumber(ARGV[1]) - #found
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], first, '(' .. ARGV[index] .. '\1', 'BYLEX', 'LIMIT', 0, left)) do
    found[#found + 1] = member
  end
end
return found

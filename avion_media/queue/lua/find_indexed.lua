-- Return the members of an index that begin with one of these subjects and NUL: see dead_letter_index.py.
-- KEYS: sorted set   ARGV: subjects
local found = {}
for _, subject in ipairs(ARGV) do
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], '[' .. subject .. '\0', '(' .. subject .. '\1', 'BYLEX')) do
    found[#found + 1] = member
  end
end
return found

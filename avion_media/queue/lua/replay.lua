-- Put a dead letter back on its queue with all attempts open, and its history.
-- KEYS: queue, dead letters   ARGV: dead letter's id
-- Returns the new entry's id, or nil.
local letter = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not letter then
  return nil
end
local entry, replays = {}, 1
for index = 1, #letter[2], 2 do
  local name, value = letter[2][index], letter[2][index + 1]
  if name == 'replays' then
    replays = (tonumber(value) or 0) + 1
  elseif name ~= 'attempts' and name ~= 'deaths' and name ~= 'failed_at' then
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
end
entry[#entry + 1] = 'replays'
entry[#entry + 1] = replays
local id = redis.call('XADD', KEYS[1], '*', unpack(entry))
redis.call('XDEL', KEYS[2], ARGV[1])
return id

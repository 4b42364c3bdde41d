-- Move an entry to the dead letters.
-- KEYS: queue, dead letters [, marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its marker stays in ms, most dead letters kept, field, value, …
if not owns(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
local letter = {}
for index = 8, #ARGV do
  letter[#letter + 1] = ARGV[index]
end
letter[#letter + 1] = 'failed_at'
letter[#letter + 1] = seconds(now_s())
append(KEYS[2], letter, ARGV[7])
remove(KEYS[1], ARGV[1], ARGV[2])
release(KEYS[3], ARGV[5], ARGV[6])
return 1

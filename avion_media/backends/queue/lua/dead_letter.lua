-- Move an entry to the dead letters.
-- KEYS: queue, state, waiting, tenants, dead letters [, dedup marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its dedup marker stays in ms, most dead letters kept, field, value, …
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
local entry = {}
for index = 8, #ARGV do
  entry[#entry + 1] = ARGV[index]
end
entry[#entry + 1] = 'failed_at'
entry[#entry + 1] = seconds(now_s())
append(KEYS[5], entry, ARGV[7])
remove(GROUP, ARGV[2], ARGV[5])
expire_dedup(KEYS[6], ARGV[5], ARGV[6])
dispatch()
return 1

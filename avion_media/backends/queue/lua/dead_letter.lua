-- Move an entry to the dead letters.
-- KEYS: queue, state, waiting, tenants [, dedup marker]
-- ARGV: group, id, consumer, deliveries, task id, how long its dedup marker stays in ms, subject or '', field, value, …
if not owns(queue, ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
local entry = arguments_from(8)
entry[#entry + 1] = 'failed_at'
entry[#entry + 1] = seconds(now_s())
append_dead_letter(entry, ARGV[7])
expire_dedup(KEYS[5], ARGV[5], ARGV[6])
local tenant = take_out(ARGV[2], ARGV[5])
if not tenant then
  return 1
end
note_ended(tenant)
dispatch()
return 1

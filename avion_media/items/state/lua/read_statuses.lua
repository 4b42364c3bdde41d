-- Statuses, and whether their media items are deleted.
-- KEYS: status, record of the deletion, of each media item
-- Returns {status or '', state of the deletion or ''} for each.
local found = {}
for index = 1, #KEYS, 2 do
  found[#found + 1] = { redis.call('GET', KEYS[index]) or '', redis.call('HGET', KEYS[index + 1], 'state') or '' }
end
return found

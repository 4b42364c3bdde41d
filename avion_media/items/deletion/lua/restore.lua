-- Write records again that Redis may have lost. Entries of the journal need no order: a greater generation wins, and of one
-- generation the undelete, unless its removal has begun; of its due times, the earliest. If a restored deletion is
-- already due, its removal might have begun before the loss: it cannot be undone, but an undelete of the journal was in time.
-- KEYS: records
-- ARGV: 'marked', then for each record: generation, due, media id, position
--    or 'undeleted', time, position, lifetime in ms, then for each record: generation, media id
-- Returns 1 for each media item that is now deleted with that generation.
local kind, current = ARGV[1], {}

local function restore_mark(key, state, generation, journaled, due, media_id, position)
  local is_earlier = state == 'marked' and tonumber(due) < tonumber(redis.call('HGET', key, 'due'))
  if tonumber(journaled) > generation or (tonumber(journaled) == generation and is_earlier) then
    local is_due = tonumber(due) <= now_ms()
    redis.call('HSET', key, 'state', 'marked', 'generation', journaled, 'due', due, 'absorbed', position,
      'too_late', is_due and 1 or 0)
    redis.call('PERSIST', key)
    announce(media_id)
    return 1
  end
  return (state == 'marked' or state == 'removing') and generation == tonumber(journaled) and 1 or 0
end

local function restore_undelete(key, state, generation, journaled, media_id)
  local number = tonumber(journaled)
  if number > generation or (number == generation and state == 'marked') then
    redis.call('HSET', key, 'state', 'undeleted', 'generation', journaled, 'due', '0', 'absorbed', '',
      'undeleted_at', ARGV[2], 'undeleted_through', ARGV[3])
    redis.call('PEXPIRE', key, ARGV[4])
    announce(media_id)
  end
  return 0
end

for index, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, 'state', 'generation')
  local state, generation = record[1], tonumber(record[2] or 0)
  if kind == 'marked' then
    local at = 4 * index - 2
    current[index] = restore_mark(key, state, generation, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  else
    current[index] = restore_undelete(key, state, generation, ARGV[3 + 2 * index], ARGV[4 + 2 * index])
  end
end
return current

-- Mark media as deleted. Repeating it changes nothing. A notice that was issued before the undelete is ignored. Of several
-- due times of one deletion, the earliest is valid.
-- KEYS: records
-- ARGV: delay in ms, position in the stream or '', lower bound of the time of issue in ms or '', whether undeletes do not
-- matter ('1'), media ids …
-- Returns 'fresh,generation,due' for each, in one string, because clients read one string faster than thousands of replies.
-- fresh is 1 for a new mark, 0 for an existing one, -1 for an ignored notice.
local delay_ms, position, lower, regardless = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4] == '1'
local marks = {}
for index, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, 'state', 'generation', 'due', 'absorbed', 'undeleted_at', 'undeleted_through')
  local state, generation, due, absorbed = record[1], record[2], record[3], record[4]
  local undeleted_at, through = record[5], record[6]
  if is_deleted(state) then
    if position ~= '' then
      redis.call('HSET', key, 'absorbed', later(position, absorbed))
    end
    if state == 'marked' then
      due = whole(math.min(tonumber(due), now_ms() + delay_ms))
      redis.call('HSET', key, 'due', due)
    end
    marks[index] = '0,' .. generation .. ',' .. due
  elseif state and not regardless and (
      (position ~= '' and not is_after(position, through)) or (lower ~= '' and tonumber(lower) < tonumber(undeleted_at))
    ) then
    marks[index] = '-1,' .. generation .. ',0'
  else
    local now = now_ms()
    generation = whole(math.max(now, (tonumber(generation) or 0) + 1))
    due = whole(now + delay_ms)
    redis.call('HSET', key, 'state', 'marked', 'generation', generation, 'due', due,
      'absorbed', later(position, absorbed), 'too_late', 0)
    redis.call('PERSIST', key)
    announce(ARGV[4 + index])
    marks[index] = '1,' .. generation .. ',' .. due
  end
end
return table.concat(marks, ' ')

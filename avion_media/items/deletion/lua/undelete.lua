-- The second step of an undelete, on the records. Repeating it changes nothing.
-- KEYS: records
-- ARGV: time and position of the first step, lifetime of a record in ms, then for each record: generation
-- that was seen before the first step, media id
-- Returns for each media item that is undeleted the present time in ms, at or after its undelete; '' if it was deleted again,
-- is too late, or is not deleted.
local done, now = {}, whole(now_ms())
for index, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, 'state', 'generation', 'absorbed', 'undeleted_at', 'too_late')
  local generation, media_id = ARGV[2 + 2 * index], ARGV[3 + 2 * index]
  done[index] = ''
  if record[1] == 'marked' and record[2] == generation and record[5] ~= '1' then
    redis.call('HSET', key, 'state', 'undeleted', 'undeleted_at', ARGV[1], 'undeleted_through', later(ARGV[2], record[3]))
    redis.call('PEXPIRE', key, ARGV[3])
    announce(media_id)
    done[index] = now
  elseif record[1] == 'undeleted' and record[4] == ARGV[1] then
    done[index] = now
  end
end
return done

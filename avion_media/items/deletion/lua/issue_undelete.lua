-- The first step of an undelete, on the server of the notices: it gets a time and a position that separate the notices
-- issued before it from those after it. Listeners of the channel receive the time in order with the notices.
-- KEYS: stream of notices, time of the last undelete   ARGV: channel of undeletes
-- Returns {time in ms, position}. No two undeletes have the same time, and none has the time of an earlier `TIME`.
local undeleted_at = whole(math.max(now_ms(), tonumber(redis.call('GET', KEYS[2]) or 0)) + 1)
redis.call('SET', KEYS[2], undeleted_at)
local position = '0-0'
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for index = 1, #info, 2 do
    if info[index] == 'last-generated-id' then
      position = info[index + 1]
    end
  end
end
if position == '0-0' then -- the stream may be lost while a reader still has notices of it: their positions are times
  position = whole(now_ms() - 1) .. '-18446744073709551615'
end
redis.call('PUBLISH', ARGV[1], undeleted_at)
return { undeleted_at, position }

-- When the tasks that markers name were queued.
-- KEYS: markers   ARGV: a marker's life in ms
-- Returns for each the Unix seconds, or '' if there is none. Of a task that has ended the marker is about to go: it seems
-- to be from long ago.
local now, found = now_s(), {}
for index, marker in ipairs(KEYS) do
  local left_ms = redis.call('PTTL', marker)
  found[index] = left_ms >= 0 and seconds(now - (tonumber(ARGV[1]) - left_ms) / 1000) or ''
end
return found

-- When the tasks were queued that dedup markers name.
-- KEYS: dedup markers   ARGV: lifetime of a marker in ms
-- Returns the Unix seconds for each, or '' if there is no marker. The marker of an ended task expires soon, so the task
-- seems to be very old.
local now, found = now_s(), {}
for index, marker in ipairs(KEYS) do
  local left_ms = redis.call('PTTL', marker)
  found[index] = left_ms >= 0 and seconds(now - (tonumber(ARGV[1]) - left_ms) / 1000) or ''
end
return found

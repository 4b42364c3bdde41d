-- Claim a dedup marker, so that no task is added under it for a while. A claim is a marker that names no task.
-- KEYS: dedup marker   ARGV: lifetime of the claim in ms
-- Returns 1, or 0 if the marker names a task. A claim of another process is taken over.
if (redis.call('GET', KEYS[1]) or '') ~= '' then
  return 0
end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1

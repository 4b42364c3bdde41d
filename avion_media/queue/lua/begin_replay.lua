-- Begin a bulk job: replay the dead letters that are there now. One job of a queue at a time.
-- KEYS: dead letters, job   ARGV: part of the error, in any case; dead letters per second; who asked for it
-- Returns how many dead letters there are, or -1 if another job is not done.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return -1
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last then
  return 0
end
redis.call('HSET', KEYS[2], 'through', last[1], 'after', '0-0', 'error', ARGV[1], 'rate', ARGV[2], 'by', ARGV[3],
  'at', seconds(now_s()), 'replayed', 0)
return redis.call('XLEN', KEYS[1])

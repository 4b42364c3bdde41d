-- Whether a media item is deleted: each request of the origin runs this.
-- KEYS: record, completeness of its bucket (see is_complete) [, status]   ARGV: server process
-- Returns {state or '', whether an empty state can be trusted, the replay that is in progress or '', status or ''}.
local found = redis.call('HMGET', KEYS[2], 'process', 'began')
return {
  redis.call('HGET', KEYS[1], 'state') or '', found[1] == ARGV[1] and 1 or 0, found[2] or '',
  KEYS[3] and redis.call('GET', KEYS[3]) or '',
}

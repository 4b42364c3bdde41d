-- Whether a media item is deleted. Without the prelude: each request of the origin runs this.
-- KEYS: record, completeness of its bucket (see is_complete)   ARGV: server process
-- Returns {state or '', whether an empty state can be trusted}.
return {
  redis.call('HGET', KEYS[1], 'state') or '', redis.call('HGET', KEYS[2], 'process') == ARGV[1] and 1 or 0,
}

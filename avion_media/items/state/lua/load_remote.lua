-- The state of a remote media item.
-- KEYS: record of its deletion, failure, validated, last use
-- Returns {state of the deletion or '', failure or '', validated or '', last use or ''}.
return {
  redis.call('HGET', KEYS[1], 'state') or '', redis.call('GET', KEYS[2]) or '', redis.call('GET', KEYS[3]) or '',
  redis.call('GET', KEYS[4]) or '',
}

-- Whether a private media item is deleted, and what is revoked of it: each request for it runs this.
-- KEYS: deletion record, completeness of its bucket, revocation   ARGV: tag of the audience, server process
-- Returns {state or '', whether nothing of this can be lost, generation of tokens of all, and of this tag}.
local revoked = redis.call('HMGET', KEYS[3], 'all', ARGV[1])
return {
  redis.call('HGET', KEYS[1], 'state') or '', redis.call('HGET', KEYS[2], 'process') == ARGV[2] and 1 or 0,
  revoked[1] or '0', revoked[2] or '0',
}

-- Whether a media item is deleted.
-- KEYS: record, completeness of its bucket
-- Returns {state or '', whether an empty state can be trusted}.
return { redis.call('HGET', KEYS[1], 'state') or '', is_complete(KEYS[2]) and 1 or 0 }

-- Write a record again that Redis has lost. A generation says which of two is newer, so entries of the journal need no order.
-- KEYS: record
-- ARGV: 'marked', generation, due, absorbed, channel, media id
--    or 'undeleted', generation, time, position, channel, media id, life in ms
-- Returns 1 when the medium is marked with that generation now.
local kind, journaled = ARGV[1], tonumber(ARGV[2])
local record = redis.call('HMGET', KEYS[1], 'state', 'generation')
local state, generation = record[1], tonumber(record[2] or 0)

if kind == 'marked' and (not state or (state == 'undeleted' and journaled > generation)) then
  redis.call('HSET', KEYS[1], 'state', 'marked', 'generation', ARGV[2], 'due', ARGV[3], 'absorbed', ARGV[4])
  redis.call('PERSIST', KEYS[1])
  redis.call('PUBLISH', ARGV[5], ARGV[6])
  return 1
end
if kind == 'undeleted' and (not state or (state == 'marked' and journaled >= generation)) then
  redis.call('HSET', KEYS[1], 'state', 'undeleted', 'generation', ARGV[2], 'due', '0', 'absorbed', '',
    'undeleted_at', ARGV[3], 'undeleted_through', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('PUBLISH', ARGV[5], ARGV[6])
  return 0
end
return kind == 'marked' and state == 'marked' and generation == journaled and 1 or 0

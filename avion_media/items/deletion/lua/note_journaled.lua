-- Deletions are in the journal.
-- KEYS: records   ARGV: generation of each
for index, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'generation') == ARGV[index] then
    redis.call('HDEL', key, 'unjournaled')
  end
end

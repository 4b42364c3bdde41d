-- Note that an operator has cancelled a task, wherever it is. `settle` forgets it if the task never comes.
-- KEYS: state   ARGV: task id, operator
redis.call('HSET', KEYS[1], 'cancelled:' .. ARGV[1], string.format('%s@%.0f', ARGV[2], now_s()))

-- Run one command, although memory may be used up: a script has a flag for that, a command has none.
-- KEYS: the command's key   ARGV: the command
return redis.call(unpack(ARGV))

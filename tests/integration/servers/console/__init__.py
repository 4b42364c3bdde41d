"""What the console reads from Redis, on a real one."""

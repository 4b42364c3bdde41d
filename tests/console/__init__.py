"""The console: what it lets whom do, and how it is in a real browser."""

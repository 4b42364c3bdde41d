"""A model of Redis."""

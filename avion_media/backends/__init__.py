"""What the service stands on: Redis, the queue on it, the object store, other servers."""

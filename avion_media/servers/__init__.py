"""What strangers reach: the gRPC API, the origin, the admin port and the console."""

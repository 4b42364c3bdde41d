"""RequestMediaUpload: calls per server CPU second, against the same handler on grpcio's asyncio server."""

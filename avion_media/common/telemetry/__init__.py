"""What the service measures, and the traces of its media. `trio_telemetry` reports it."""

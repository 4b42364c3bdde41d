"""What every part uses: ids, keys, errors, records, telemetry. No input or output."""

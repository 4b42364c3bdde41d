"""Pure vocabulary of the service: ids, object keys, formats, errors, tasks. No I/O, no clock, no Trio."""

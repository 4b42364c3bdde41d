"""Kills parts of the service, and whole processes, at any time under load. `make chaos` runs the long versions."""

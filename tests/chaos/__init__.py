"""Parts of the service, and whole processes, killed at any time under load. `make chaos` runs the long versions."""

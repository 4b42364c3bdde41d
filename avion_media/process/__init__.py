"""One process: phases, drain, readiness, watchdog, and what its nodes share."""

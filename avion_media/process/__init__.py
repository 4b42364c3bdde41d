"""One process: phases, drain, readiness, and what its nodes share."""

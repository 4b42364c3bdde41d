"""Whatever dies, whenever: an accepted task ends exactly once in effect, and a deletion wins.

`checker` knows the invariants and nothing of the service's code; `faulty` is the service with a fault in one call;
`points` enumerates those calls; `scenarios` is the work that they are enumerated in.
"""

"""Crash points: a process can die in any call, and still each accepted task ends exactly once, and a deletion wins.

`checker` knows the invariants and nothing of the service's code; `faulty` is the service with a fault in one call;
`points` enumerates those calls; `lane` has the work in which they are enumerated.
"""

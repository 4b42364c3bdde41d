"""The bodies of the supervised nodes: each opens what it owns, reports its start, and ends when it is stopped.

Which of them run, and how they depend on each other, is written in `avion_media.app`.
"""

from functools import partial

from supervisors import Backoff, Intensity, Supervisor

# A node that keeps crashing is restarted for half a minute. Then its supervisor gives up, and the levels above follow
# within five minutes.
group = partial(Supervisor, intensity=Intensity(20, within_s=60.0), backoff=Backoff(max_s=2.0))
# For a supervisor of supervisors: their restarts can take 10 s each, because every node below closes first.
branch = partial(group, intensity=Intensity(20, within_s=300.0))

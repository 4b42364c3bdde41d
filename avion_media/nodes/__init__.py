"""The bodies of the supervised children: each opens what it owns, says that it is ready, and ends when told to.

Which of them run, and how they stand to each other, is written in `avion_media.app`.
"""

from supervisors import Backoff, Intensity

# What crashes again and again is tried for half a minute, then its supervisor gives up and the level above decides.
RESTARTS = Backoff(first_s=0.1, max_s=2.0)
INTENSITY = Intensity(max_restarts=20, within_s=60.0)

"""The length of the long tests: short by default, longer with `make chaos`."""

from __future__ import annotations

import os

SEED = int(os.environ.get("AVION_CHAOS_SEED", "1"))
MONKEY_S = float(os.environ.get("AVION_CHAOS_SECONDS", "8"))
ROLLING_RESTARTS = int(os.environ.get("AVION_CHAOS_RESTARTS", "2"))

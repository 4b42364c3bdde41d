"""What the service takes while nobody asks anything of it: all roles, as deployed."""

from __future__ import annotations

import statistics
import time

from tests.bench.figures import Figure, Goal
from tests.bench.processes import pss_bytes
from tests.bench.setting import Setting

_SETTLING_S = 5.0  # first connections and first looks at the store are behind it then
_SAMPLES = 5


def measure(setting: Setting) -> list[Figure]:
    """PSS of the service and its fork server together."""
    with setting.running(setting.service_environment()) as service:
        time.sleep(0 if setting.quick else _SETTLING_S)
        samples = []
        for _ in range(1 if setting.quick else _SAMPLES):
            time.sleep(1)
            samples.append(pss_bytes(service.process.pid) / 1e6)
        megabytes = statistics.median(samples)
    return [Figure("service, idle, all roles (PSS)", "MB", ours=megabytes, goal=Goal(150, of="ours"))]

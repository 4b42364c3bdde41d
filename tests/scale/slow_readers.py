"""Slow readers of the origin for minutes: their resources here and at the store, and the latency of a fast client.

usage: python -m tests.scale.slow_readers [--readers N] [--seconds N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

from tests.bench.origin.reader import get_all, latencies_s, slow_clients
from tests.bench.processes import listener_pid, pss_bytes, responses_held, rss_bytes, watching_memory
from tests.bench.setting import Setting, open_setting
from tests.service.harness import running_program
from tests.service.published import encode_id, original_key, thumbnail_key
from tests.services import ServiceFailed

_MEBIBYTE = 1 << 20
_MAX_MEMORY_MIB = 250
_MAX_P99_MS = 50
_MAX_GATEWAY_MIB = 64  # one open response takes 16, and 16 can be open; without any, its allocator took 13 to 40
_STORE_REQUESTS = 16  # at a time, by default
_AT_ONCE = 200  # requests of the fast client, one after the other
_MEDIA_ID = encode_id(datetime.now(UTC), 2, 13)
_USAGE_ERROR = 2


def main() -> int:
    """Return 0 if no limit was exceeded."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.slow_readers", description=__doc__.split("\n")[0])
    parser.add_argument("--readers", type=int, default=900)
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    try:
        with open_setting(quick=False) as setting:
            return 0 if _keeps_its_bounds(setting, arguments.readers, arguments.seconds) else 1
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR


def _keeps_its_bounds(setting: Setting, readers: int, seconds: float) -> bool:
    client: Any = setting.store.client
    client.put_object(Bucket=setting.store.bucket, Key=thumbnail_key(_MEDIA_ID, "small"), Body=b"s" * (40 << 10))
    client.put_object(Bucket=setting.store.bucket, Key=original_key(_MEDIA_ID), Body=b"l" * (32 * _MEBIBYTE))
    gateway_port = int(setting.store.address.endpoint_url.rpartition(":")[2])
    gateway = listener_pid(gateway_port)
    with running_program(setting.service_environment(), roles="http") as service:
        port, large, small = (
            int(service.http_url.rpartition(":")[2]),
            f"/media/{_MEDIA_ID}",
            f"/thumbnail/small/{_MEDIA_ID}",
        )
        get_all(port, large, 4, 2)
        get_all(port, small, 10 * _STORE_REQUESTS, _STORE_REQUESTS)  # what it allocates once is no growth
        resident = rss_bytes(gateway)
        with (
            watching_memory(service.process.pid, pss_bytes) as here,
            watching_memory(gateway, rss_bytes) as there,
            slow_clients(port, large, readers),
        ):
            latencies: list[float] = []
            held: list[int] = []
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                latencies += latencies_s(port, small, _AT_ONCE)
                time.sleep(1)
                held.append(responses_held(gateway_port))
    p99_ms = statistics.quantiles(latencies, n=100)[-1] * 1000
    memory_mib, grown_mib = here.peak_bytes / _MEBIBYTE, (there.peak_bytes - resident) / _MEBIBYTE
    print(f"{readers} slow readers for {seconds:.0f} s, none cut off; {len(latencies)} requests of a fast client")
    print(f"  its p99                      {p99_ms:7.1f} ms   (at most {_MAX_P99_MS})")
    print(f"  memory of the service (PSS)  {memory_mib:7.1f} MiB  (at most {_MAX_MEMORY_MIB})")
    print(f"  growth of the store's gateway{grown_mib:7.1f} MiB  (at most {_MAX_GATEWAY_MIB})")
    print(f"  responses that wait there    {statistics.median(held):7.1f}      (median 0; {max(held)} at the most)")
    return (
        p99_ms <= _MAX_P99_MS
        and memory_mib <= _MAX_MEMORY_MIB
        and grown_mib <= _MAX_GATEWAY_MIB
        and not statistics.median(held)
    )


if __name__ == "__main__":
    sys.exit(main())

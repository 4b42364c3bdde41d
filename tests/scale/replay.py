"""How long a replay of the journal takes, and what the origin serves meanwhile: ``python -m tests.scale.replay``.

The journal has 100,000 notices of one media item each, joined as the sweep's leader joins them once a minute, and a few
that are not joined yet. Redis, the object store (Ceph) and the service with all roles are real. Redis loses all data.
Until the records are complete, a client requests a media item that the journal does not name, and once one that it
names.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import redis as redis_py

from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.items.deletion.journal import JOURNAL, JournalEntry, JournalKind, key_at
from avion_media.items.deletion.records import BUCKETS, complete_key
from tests.bench.setting import Setting, open_setting
from tests.service.harness import Service, eventually, running_program
from tests.services import ServiceFailed

NOTICES, FRESH = 100_000, 100
TARGET_S = 60.0
_JOINED_BYTES = 256 << 10
_START_S = 600.0
_USAGE_ERROR = 2


def bodies(media: list[MediaId], at_ms: int) -> Iterator[bytes]:
    """Yield the objects of the journal: the last notices by themselves, the others joined."""
    due_ms = at_ms + 30 * 86_400_000
    lines = [
        JOURNAL.write(JournalEntry(JournalKind.MARKED, ((str(each), at_ms + number, due_ms),), f"{at_ms + number}-0"))
        for number, each in enumerate(media)
    ]
    joined: list[bytes] = []
    for line in lines[:-FRESH]:
        joined.append(line)
        if len(joined) * len(line) >= _JOINED_BYTES:
            yield b"\n".join(joined)
            joined = []
    yield from [b"\n".join(joined)] if joined else []
    yield from lines[-FRESH:]


def fill(setting: Setting, notices: int) -> tuple[MediaId, MediaId]:
    """Write the journal and two originals. Return a media item that it names, and one that it does not."""
    began = datetime.fromtimestamp(time.time() - 3600, UTC)
    at_ms = round(began.timestamp() * 1000)
    media = [new_media_id(JPEG, at_ms) for _ in range(notices)]
    named, other = media[0], new_media_id(JPEG, at_ms)
    written = {f"{key_at(began)}{number:016}.json": body for number, body in enumerate(bodies(media, at_ms))}
    written |= {keys.original(each): b"a picture" for each in (named, other)}
    for key, body in written.items():
        setting.store.client.put_object(
            Bucket=setting.store.bucket, Key=key, Body=body, ContentType="image/jpeg", Metadata={}
        )
    return named, other


def is_complete(client: redis_py.Redis) -> bool:
    """Return whether a replay has ended for all records."""
    return all(client.hexists(complete_key(each), "process") for each in BUCKETS)


def measure(
    service: Service, client: redis_py.Redis, named: MediaId, other: MediaId
) -> tuple[float, Counter[int], Counter[int], float]:
    """Return the seconds of a replay, the HTTP statuses of both media items meanwhile, and the longest response."""
    statuses: dict[MediaId, Counter[int]] = {named: Counter(), other: Counter()}
    longest = 0.0
    client.flushall()
    began = time.monotonic()
    while not is_complete(client) and time.monotonic() < began + _START_S:
        asked = time.monotonic()
        statuses[other][service.get(f"/media/{other}").status_code] += 1
        longest = max(longest, time.monotonic() - asked)
        if not statuses[named]:  # once: it waits for its record
            statuses[named][service.get(f"/media/{named}").status_code] += 1
    return time.monotonic() - began, statuses[named], statuses[other], longest


def main() -> int:
    """Return 0 if the goals are reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.replay", description=__doc__.split("\n")[0])
    parser.add_argument("--notices", type=int, default=NOTICES)
    arguments = parser.parse_args()
    try:
        with open_setting(quick=False) as setting, redis_py.Redis.from_url(setting.redis_url) as client:
            named, other = fill(setting, arguments.notices)
            with running_program(setting.service_environment()) as service:
                eventually(lambda: is_complete(client), "the first replay", timeout_s=_START_S)
                seconds, of_named, of_other, longest = measure(service, client, named, other)
            restored = sum(1 for _ in client.scan_iter("media_deletion:*", count=10_000))
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    print(f"replay of {arguments.notices} notices: {seconds:.1f} s, {restored} records restored")
    print(f"meanwhile: not named {dict(of_other)}, the longest response {longest:.1f} s; named {dict(of_named)}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    good = restored == arguments.notices and seconds <= TARGET_S and of_other[200] == of_other.total() > 0
    return 0 if good and not of_named[200] else 1


if __name__ == "__main__":
    sys.exit(main())

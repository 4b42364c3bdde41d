"""How soon a revocation and the block of a host hold on three replicas: ``python -m tests.scale.effective``.

Clients send 200 requests a second to the three in turn: for a private file with a token, and then for a remote file.
Meanwhile one replica gets RevokeMediaUrls or BlockHost. No request that begins a second later may succeed. Then Redis
loses all data, and no request at all may succeed. Redis, the object store (Ceph) and the replicas are real.
"""

from __future__ import annotations

import argparse
import http.client
import os
import secrets
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import redis as redis_py

from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.wire.avion import media_pb2 as wire
from tests.bench.setting import Setting, open_setting
from tests.remote_ids import remote_id_for
from tests.service.harness import Service, eventually, running_program
from tests.service.published import PRIVATE, encode_id, thumbnail_key
from tests.services import ServiceFailed

REPLICAS, RATE, SECONDS = 3, 200.0, 4.0
TARGET_S = 1.0
_BODY = b"\xff\xd8\xff a file"
_SERVED = "served"
_CLIENTS = 40
_USAGE_ERROR = 2
_HOST = "remote.example"
_URL = f"https://{_HOST}/a.jpg"

Ask = Callable[[int], str]
"""Makes one request to the replica of this number. Returns `_SERVED`, or why it was not."""


@dataclass
class Load:
    """Requests at a constant rate. ``found``: when each began, how long it took, and its outcome."""

    found: list[tuple[float, float, str]] = field(default_factory=list)

    @contextmanager
    def running(self, rate: float, ask: Ask) -> Iterator[None]:
        """Send requests until the block ends."""
        stopped, began = threading.Event(), time.monotonic()

        def work(first: int) -> None:
            number = first
            while not stopped.wait(max(0.0, began + number / rate - time.monotonic())):
                at = time.monotonic()
                outcome = ask(number % REPLICAS)
                self.found.append((at, time.monotonic() - at, outcome))
                number += _CLIENTS

        threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            stopped.set()
            for each in threads:
                each.join()

    def since(self, moment: float) -> Counter[str]:
        """Count the outcomes of requests that began after that."""
        return Counter(outcome for at, _, outcome in self.found if at > moment)

    def last_served(self, moment: float) -> float:
        """Return how long after that the last request began that was served; 0 if none was."""
        return max((at - moment for at, _, outcome in self.found if outcome == _SERVED and at > moment), default=0.0)


class Files:
    """Requests for a private file with a token."""

    def __init__(self, replicas: list[Service], path: str) -> None:
        self._addresses = [each.http_url.removeprefix("http://") for each in replicas]
        self._path = path
        self._local = threading.local()

    def ask(self, number: int) -> str:
        """See `Ask`."""
        connections = self._local.__dict__
        connection = connections.setdefault(
            str(number), http.client.HTTPConnection(self._addresses[number], timeout=20)
        )
        connection.request("GET", self._path)
        response = connection.getresponse()
        body = response.read()
        return _SERVED if response.status == 200 or _BODY in body else f"{response.status}"


class RemoteFiles:
    """Calls of CacheRemoteMedia for a file that is there."""

    def __init__(self, replicas: list[Service]) -> None:
        self._replicas = replicas

    def ask(self, number: int) -> str:
        """See `Ask`."""
        try:
            self._replicas[number].cache(_URL)
        except grpc.RpcError as error:
            return str(error.code().name)
        return _SERVED


def fill(setting: Setting) -> str:
    """Write a private file and a copy of a remote one. Return the id of the first."""
    media_id = encode_id(datetime.now(UTC), JPEG.code | PRIVATE, secrets.randbits(72))
    for key in (thumbnail_key(media_id, "small"), keys.original(remote_id_for(_URL))):
        setting.store.client.put_object(Bucket=setting.store.bucket, Key=key, Body=_BODY, ContentType="image/jpeg")
    return media_id


def measure(
    name: str, ask: Ask, rate: float, act: Callable[[], object], client: redis_py.Redis, refusal: str
) -> tuple[str, bool]:
    """Run one load through an action and the loss of Redis. Return a line about it, and whether it is good."""
    before, after, lost = Load(), Load(), Load()
    with before.running(rate, ask):
        time.sleep(SECONDS)
    with after.running(rate, ask):
        time.sleep(SECONDS / 2)
        called = time.monotonic()
        act()
        returned = time.monotonic()
        time.sleep(SECONDS / 2)
    client.flushall()
    flushed = time.monotonic()
    with lost.running(rate, ask):
        time.sleep(SECONDS)
    eventually(lambda: {ask(number) for number in range(REPLICAS)} == {refusal}, "the refusal after the loss")
    waits = sorted(each for _, each, _ in before.found)
    line = (
        f"{name}: {len(before.found) / SECONDS:.0f} requests a second, median {statistics.median(waits) * 1000:.0f} ms;"
        f" the call took {returned - called:.3f} s, the last request that was served began"
        f" {after.last_served(called):.3f} s after it began, {after.last_served(returned):.3f} s after it returned"
        f" ({dict(after.since(returned))}); after FLUSHALL {dict(lost.since(flushed))}"
    )
    is_soon = after.last_served(called) <= TARGET_S
    is_busy = before.since(0.0) == {_SERVED: len(before.found)} and after.since(returned)[refusal] > 0
    return line, is_soon and is_busy and not lost.since(flushed)[_SERVED] and lost.since(flushed)[refusal] > 0


def main() -> int:
    """Return 0 if the goals are reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.effective", description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second")
    rate = parser.parse_args().rate
    try:
        with ExitStack() as stack:
            setting = stack.enter_context(open_setting(quick=False))
            client = stack.enter_context(redis_py.Redis.from_url(setting.redis_url))
            media_id = fill(setting)
            settings = {"MODERATION__RELOAD": "1h"}  # so that it is the announcement that they heard
            replicas = [
                stack.enter_context(running_program(setting.service_environment(**settings), roles="http,grpc,events"))
                for _ in range(REPLICAS)
            ]
            signed = wire.SignMediaUrlsRequest(media_ids=[media_id])
            token = replicas[1].call("SignMediaUrls", signed, wire.SignMediaUrlsResponse).tokens[media_id]
            files = Files(replicas, f"/thumbnail/small/{media_id}/{token}")
            revoke = wire.RevokeMediaUrlsRequest(media_ids=[media_id])
            block = wire.BlockHostRequest(host=_HOST)
            results = [
                measure(
                    "revocation",
                    files.ask,
                    rate,
                    lambda: replicas[0].call("RevokeMediaUrls", revoke, wire.RevokeMediaUrlsResponse),
                    client,
                    "403",
                ),
                measure(
                    "host block",
                    RemoteFiles(replicas).ask,
                    rate,
                    lambda: replicas[0].call("BlockHost", block, wire.BlockHostResponse),
                    client,
                    "PERMISSION_DENIED",
                ),
            ]
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for line, _ in results:
        print(line)
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())

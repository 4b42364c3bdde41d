"""10,000 events for four endpoints, three of which fail for more than an hour: ``python -m tests.scale.webhooks``.

One endpoint is healthy, one hangs, one answers 500, and one is killed. After an hour all are healthy. The clock of the
service and of Redis is moved, between parts of the events and afterwards, so the hour takes minutes. Each endpoint
must get each event, and the healthy one soon. Redis, the service (role ``webhooks``) and HTTP are real.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis as redis_py

from avion_media.common.tasks import WEBHOOK_QUEUE
from tests.service.harness import Service, eventually, running_program, service_environment
from tests.service.shifted_clock import ShiftedClock
from tests.service.test_webhooks import publish
from tests.service.webhook_receiver import Receiver, endpoint, receiver
from tests.services import ServiceFailed, redis_server
from tests.services.process import free_port

EVENTS, PARTS, RATE = 10_000, 6, 20.0
STEP_S = 720  # after each part: more than an hour in all
TARGET_S = 0.5
_RECOVERY_STEP_S, _MOST_STEPS = 900, 60
_QUIET_S = 4.0  # without a delivery: the others wait
_PART_S = 600.0
_USAGE_ERROR = 2


class World:
    """The endpoints, the clock, and what was published when."""

    def __init__(self, client: redis_py.Redis, clock: ShiftedClock, endpoints: dict[str, Receiver]) -> None:
        self.endpoints = endpoints
        self.published: dict[str, float] = {}
        self.probes: list[str] = []
        self._client = client
        self._clock = clock
        self._ahead_s = 0

    def publish(self, count: int, rate: float) -> None:
        """Publish events, evenly."""
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            (event_id,) = publish(self._client, 1)
            self.published[event_id] = time.monotonic()

    def step(self, seconds: int) -> None:
        """Move the clock, and wait until events are read again: locks have expired at once."""
        self._ahead_s += seconds
        self._clock.set_ahead(self._ahead_s)
        self.probes += (probe := publish(self._client, 1))
        eventually(lambda: probe[0] in self.endpoints["healthy"].accepted, "an event after the step")

    def missing(self, name: str) -> set[str]:
        """Return the events that an endpoint has not accepted."""
        return {*self.published, *self.probes} - self.endpoints[name].accepted.keys()

    def wait_for_quiet(self) -> None:
        """Wait until nothing is delivered."""
        count, since = -1, time.monotonic()
        while time.monotonic() < since + _QUIET_S:
            found = sum(len(each.accepted) for each in self.endpoints.values())
            if found != count:
                count, since = found, time.monotonic()
            time.sleep(0.1)

    @property
    def waits_s(self) -> list[float]:
        """Return for each event, in their order, how long the healthy endpoint waited for it."""
        accepted = self.endpoints["healthy"].accepted
        return [accepted[each] - at for each, at in self.published.items() if each in accepted]


def run(world: World, stack: ExitStack, port: int, events: int, parts: int, rate: float) -> int:
    """Publish all events while three endpoints fail, and wait until all have them. Return the number of steps."""
    healthy, hanging, failing = (world.endpoints[each] for each in ("healthy", "hanging", "failing"))
    for part in range(parts):
        world.publish(events * (part + 1) // parts - events * part // parts, rate)
        eventually(lambda: not world.missing("healthy"), "all events at the healthy endpoint", _PART_S)
        world.step(STEP_S)
    assert len(healthy.accepted) == events + parts
    assert not hanging.accepted
    assert not failing.accepted
    assert hanging.hangs is not None
    held, hanging.hangs = hanging.hangs, None
    held.set()
    failing.status = 204
    killed = stack.enter_context(receiver(port=port))
    killed.accepted |= world.endpoints["killed"].accepted
    world.endpoints["killed"] = killed
    for steps in range(_MOST_STEPS):
        world.wait_for_quiet()
        if not any(world.missing(each) for each in world.endpoints):
            return steps
        world.step(_RECOVERY_STEP_S)
    return _MOST_STEPS


def _p95(waits_s: list[float]) -> float:
    return statistics.quantiles(waits_s, n=100)[94]


def dead_letters(client: redis_py.Redis) -> int:
    """Return how many events were given up."""
    return int(client.xlen(f"{{{WEBHOOK_QUEUE}}}:dlq"))


def outcomes(service: Service) -> dict[str, int]:
    """Return the counts of ``avion.webhook.events``, by endpoint and outcome."""
    found = {}
    for line in service.metrics().splitlines():
        if line.startswith("avion_webhook_events_total{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            names = dict(each.split("=") for each in labels.split(",") if "=" in each)
            found[f"{names['webhook']} {names['outcome']}".replace('"', "")] = int(float(value))
    return found


@contextmanager
def open_world(stack: ExitStack, port: int, directory: Path) -> Iterator[tuple[World, Service, redis_py.Redis]]:
    """Start everything. The endpoint at ``port`` is killed at once."""
    endpoints = {
        "healthy": stack.enter_context(receiver()),
        "hanging": stack.enter_context(receiver(hangs=True)),
        "failing": stack.enter_context(receiver(500)),
    }
    with receiver(port=port) as killed:
        endpoints["killed"] = killed
    path = directory / "endpoints.json"
    path.write_text(json.dumps([endpoint(name, each.url) for name, each in endpoints.items()]))
    clock = ShiftedClock(directory)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in clock.environment.items():
            environment.setenv(name, value)
        redis_url = stack.enter_context(redis_server())
    nowhere = f"http://127.0.0.1:{free_port()}"  # the role needs no object store
    settings = {"WEBHOOKS__ENDPOINTS_FILE": str(path), "TASKS__CLAIM_AFTER": "1d"}  # a step is no death of a worker
    ours = service_environment(redis_url, nowhere, "none", **settings) | clock.environment
    ours |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    client = stack.enter_context(redis_py.Redis.from_url(redis_url, decode_responses=True))
    with running_program(ours, roles="webhooks") as service:
        eventually(lambda: client.exists("media_events") and client.xinfo_groups("media_events"), "the group")
        yield World(client, clock, endpoints), service, client


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if no event was lost, and the healthy endpoint got them soon."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.webhooks", description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rate", type=float, default=RATE, help="events per second")
    chosen = parser.parse_args(arguments)
    port = free_port()
    try:
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            world, service, client = stack.enter_context(open_world(stack, port, Path(folder)))
            began = time.monotonic()
            steps = run(world, stack, port, chosen.events, PARTS, chosen.rate)
            waits_s, given_up, counted = world.waits_s, dead_letters(client), outcomes(service)
            lost = {name: len(world.missing(name)) for name in world.endpoints}
            requests = {name: len(each.requests) for name, each in world.endpoints.items()}
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    p95_s = _p95(waits_s)
    size = len(waits_s) // PARTS
    of_parts = [f"{_p95(waits_s[first : first + size]):.3f}" for first in range(0, PARTS * size, size)]
    hours = (PARTS * STEP_S + steps * _RECOVERY_STEP_S) / 3600
    print(f"{chosen.events} events, {chosen.rate:g} a second; {hours:.1f} h in {time.monotonic() - began:.0f} s")
    print(
        f"the healthy endpoint: median {statistics.median(waits_s):.3f} s, p95 {p95_s:.3f} s, max {max(waits_s):.3f} s"
    )
    print(f"its p95 in each part of the events: {' '.join(of_parts)} s")
    print(f"requests {requests}; lost {lost}; dead letters {given_up}")
    print(f"avion.webhook.events {counted}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0 if not any(lost.values()) and not given_up and p95_s <= TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())

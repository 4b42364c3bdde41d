"""Uploads that are killed: ``python -m tests.crash.uploads``.

`avion-media upload` sends one file after the other, in one PUT or in parts. Each time the command is killed at one of
its calls, or the service at one of its own; half of the uploads are resumed. Then two days pass, the sweep runs, and
the bucket is checked: ``incoming/`` is empty, no multipart upload is left, and the index of owners matches the objects.
A seed, which is printed, chooses the kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from avion_media.backends.queue import QueueKeys
from avion_media.common.wire.avion import media_pb2 as wire
from tests.crash.checker import OWNER
from tests.crash.lane import DATA, Lane, Process, open_lane
from tests.crash.points import HOWS, most_of
from tests.service.harness import eventually
from tests.services import ceph, s3_address_from

KILLS = HOWS[:2]  # before the call, and after it
ONE_PUT, PARTS, RESUMED = "one PUT", "in parts", "resumed"
KINDS = (ONE_PUT, PARTS, RESUMED)
_ROLES = ("grpc", "processing")
_INTERRUPTION = {"name": "client:PUT", "nth": 2, "how": KILLS[0]}  # of resumed uploads: one part can be stored
_LATER_S = 2 * 86_400.0  # longer than any upload can take
_LARGE_BYTES = 17 << 20  # three parts
_CHUNKS_APART = 20  # of the chunks of a body, each 20th is a step
_BEFORE_S = 3600.0  # Redis has lost nothing for so long; otherwise the sweep treats every upload as completed
_MAX_SWEEPS = 5
_AT_ONCE = 10  # uploads before the bucket is checked, and emptied


@dataclass(frozen=True)
class Kill:
    """One upload, and the step at which its client or the service is killed."""

    kind: str
    of_client: bool
    name: str
    nth: int
    how: str
    comes_back: bool = False

    def __str__(self) -> str:
        who, then = "client" if self.of_client else "service", "resumed" if self.comes_back else "abandoned"
        return f"{self.kind}: {who} {self.how} {self.name} #{self.nth}, {then}"


class Uploads:
    """Uploads on one lane, one after the other. Made by `open_uploads`."""

    def __init__(self, lane: Lane, channel: grpc.Channel, files: dict[str, Path]) -> None:
        self._lane = lane
        self._channel = channel
        self._files = files
        self._service: Process | None = None
        self._clients: list[Process] = []

    def begin(self) -> None:
        """Forget everything: an empty bucket, and a Redis that has lost nothing lately."""
        self._lane.kill_all()
        self._service = None
        self._clients.clear()
        self._lane.forget_everything("")
        self._serve()  # which creates the groups of the queues again
        state = QueueKeys("media_processing_queue").state
        eventually(lambda: self._lane.client.hdel(state, "lost"), "the groups of the queues")
        self._lane.client.hset("media_sweep", "complete_since", time.time() - _BEFORE_S)

    def calls_of(self, kind: str) -> list[Kill]:
        """Upload undisturbed, and return each step at which one could be killed."""
        self._stop()
        client, service = self._upload(kind, None, None)
        self._wait_for_tasks()
        steps = [(True, *call) for call in client.calls()] + [(False, *call) for call in service.calls()]
        return [
            Kill(kind, of_client, name, nth, how)
            for of_client, name, nth in dict.fromkeys(steps)
            if (nth % _CHUNKS_APART == 1 if name == "client:chunk" else nth <= most_of(name))
            for how in KILLS
        ]

    def kill(self, kill: Kill) -> bool:
        """Upload, with a kill. Return whether the step was reached."""
        try:
            return self._kill(kill)
        except AssertionError as error:
            raise AssertionError(f"{kill}: {error}") from None

    def _kill(self, kill: Kill) -> bool:
        fault = {"name": kill.name, "nth": kill.nth, "how": kill.how}
        if kill.of_client:
            client, _ = self._upload(kill.kind, fault, None, comes_back=kill.comes_back)
            return client.fired()
        self._stop()
        _, service = self._upload(kill.kind, None, fault, comes_back=kill.comes_back)
        if service.alive():
            self._stop()
        self._wait_for_tasks()  # a task that the next kills hit as well would be poison, as it should
        return service.fired()

    def sweep(self) -> Counter[str]:
        """Let the time pass, and sweep until there is nothing to do. Return how many media were swept, by reason."""
        swept: Counter[str] = Counter()
        for _ in range(_MAX_SWEEPS):
            self._wait_for_tasks()
            sweep = self._run(["sweep", "--json"], later_s=_LATER_S, SWEEP__RATE="1000")
            done = _json_of(sweep)["done"]
            if not done:
                return swept
            swept.update({reason: each["media"] for reason, each in done.items()})
        raise AssertionError(f"sweep after sweep finds something to do: {swept}")

    def ready(self) -> set[str]:
        """Return the media items that the service reported as READY to a client."""
        told = [each for each in self._clients if '"READY"' in each.log.read_text()]
        return {ended["media_id"] for client in told for ended in _json_of(client)}

    def wrong(self) -> list[str]:
        """Return what is wrong in the bucket when all work has ended."""
        checker = self._lane.checker
        held: Counter[str] = Counter()
        originals, index, found = set(), set(), []
        for key, size in checker.listed(""):
            top, media_id = key.partition("/")[0], key.rpartition("/")[2].partition(".")[0]
            if top in ("original", "thumbnail"):
                held[media_id] += size
            if top == "original":
                originals.add(media_id)
            if top == "owner":
                index.add(key)
            if top == "incoming":
                found.append(f"left: {key}")
        parts = checker.s3.list_multipart_uploads(Bucket=checker.bucket).get("Uploads", [])
        wanted = {f"{OWNER}{each}.{held[each]}" for each in originals}
        usage = self._call("GetUsage", wire.GetUsageRequest(owner=OWNER.split("/")[1]), wire.GetUsageResponse)
        counted, stored = (usage.count, usage.bytes), (len(originals), sum(held.values()))
        return [
            *found,
            *(f"left: parts of {each['Key']}" for each in parts),
            *(f"in the index, but not so in the store: {each}" for each in sorted(index - wanted)),
            *(f"in the store, but not so in the index: {each}" for each in sorted(wanted - index)),
            *(f"thumbnails without an original: {each}" for each in sorted(held.keys() - originals)),
            *(f"reported as READY to a client, but not in the store: {each}" for each in self.ready() - originals),
            *([f"usage is {counted}, not {stored}"] if counted != stored else []),
        ]

    def _upload(
        self,
        kind: str,
        of_client: dict[str, Any] | None,
        of_service: dict[str, Any] | None,
        *,
        comes_back: bool = False,
    ) -> tuple[Process, Process]:
        """Upload a new file. Return the client and the service, of which one may have been killed."""
        original = self._files[kind]
        file = original.with_name(f"{secrets.token_hex(8)}{original.suffix}")
        os.link(original, file)
        if kind == RESUMED:
            self._serve()
            self._send(file, _INTERRUPTION)
            if of_service is not None:
                self._stop()
        service = self._serve(of_service)
        client = self._send(file, of_client, resumes=kind == RESUMED)
        if comes_back:
            self._serve()
            self._send(file, resumes=True)
        return client, service

    def _send(self, file: Path, fault: dict[str, Any] | None = None, *, resumes: bool = False) -> Process:
        options = ["--json", "--owner", OWNER.split("/")[1], *(["--resume"] if resumes else [])]
        client = self._run(["upload", *options, str(file)], fault)
        self._clients.append(client)
        return client

    def _run(self, command: list[str], fault: dict[str, Any] | None = None, **more: Any) -> Process:
        process = self._lane.start(fault=fault, command=command, **more)
        try:
            eventually(lambda: not process.alive(), f"{command} to end")
        except AssertionError as error:
            logs = [each.log.read_text()[-2000:] for each in (process, self._service) if each is not None]
            raise AssertionError("\n".join([str(error), *map(str, process.calls()), *logs])) from None
        return process

    def _serve(self, fault: dict[str, Any] | None = None) -> Process:
        """Start the service, and wait until it accepts uploads or its fault has ended it."""
        if self._service is None or not self._service.alive():
            service = self._service = self._lane.start(_ROLES, fault)
            eventually(lambda: not service.alive() or self._accepts_parts(), "the service to accept uploads")
        return self._service

    def _stop(self) -> None:
        if self._service is not None:
            self._service.kill()
        self._service = None

    def _accepts_parts(self) -> bool:
        try:
            found = self._call("GetCapabilities", wire.GetCapabilitiesRequest(), wire.Capabilities)
        except grpc.RpcError:
            return False
        return bool(found.multipart)

    def _call(self, method: str, request: Any, response: Any) -> Any:
        call = self._channel.unary_unary(f"/avion.MediaService/{method}")
        return response.FromString(call(request.SerializeToString(), timeout=10.0))

    def _wait_for_tasks(self) -> None:
        self._serve()
        eventually(lambda: not self._lane.checker.unfinished(), "all tasks to end")


def _json_of(process: Process) -> Any:
    """Return what a command printed before the exception that ended it, without its log."""
    lines = process.log.read_text().splitlines(keepends=True)
    text = "".join(each for each in lines if not each.startswith('{"event":'))
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=0)
    return json.JSONDecoder().raw_decode(text, start)[0]


@contextmanager
def open_uploads(lane: Lane) -> Iterator[Uploads]:
    """Yield uploads on a lane, of small and of large files."""
    small = lane.directory / "small.png"
    small.write_bytes((DATA / "png-display-p3-patch.png").read_bytes())
    clip = (DATA / "mp4-h264-udta-xyz-location.mp4").read_bytes()
    padding = _LARGE_BYTES - len(clip)
    large = lane.directory / "large.mp4"
    large.write_bytes(clip + padding.to_bytes(4) + b"free" + bytes(padding - 8))
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(lane.environment["AVION_MEDIA_GRPC__BIND"], options=options) as channel:
        yield Uploads(lane, channel, {ONE_PUT: small, PARTS: large, RESUMED: large})


def choose(kills: Sequence[Kill], count: int, seed: int) -> list[Kill]:
    """Return so many kills: at each step of the client, and at steps of the service, as the seed says."""
    chance = random.Random(seed)
    of_client = [each for each in kills if each.of_client]
    of_service = [each for each in kills if not each.of_client]
    chosen = chance.sample(of_client, min(count, len(of_client)))
    chosen += chance.sample(of_service, min(count - len(chosen), len(of_service)))
    chance.shuffle(chosen)
    return [replace(each, comes_back=chance.random() < 0.5) for each in chosen]


def main() -> int:
    """Return 0 if nothing was left and nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.uploads", description=__doc__)
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    arguments = parser.parse_args()
    started = time.monotonic()
    swept: Counter[str] = Counter()
    reached = ready = failed = 0
    with ceph() as own_or_shared, open_lane(s3_address_from() or own_or_shared) as lane, open_uploads(lane) as uploads:
        uploads.begin()
        steps = [kill for kind in KINDS for kill in uploads.calls_of(kind)]
        kills = choose(steps, arguments.uploads, arguments.seed)
        print(f"seed {arguments.seed}: {len(steps)} steps, {len(kills)} uploads", flush=True)
        for first in range(0, len(kills), _AT_ONCE):
            now = kills[first : first + _AT_ONCE]
            uploads.begin()
            reached += sum([uploads.kill(each) for each in now])
            swept += uploads.sweep()
            ready += len(uploads.ready())
            wrong = uploads.wrong()
            failed += len(wrong)
            if wrong:
                print(f"FAILED after {len(now)} uploads:", *now, *(f"    {each}" for each in wrong), sep="\n  ")
            print(f"{first + len(now)} of {len(kills)} uploads", flush=True)
    of_client = sum(each.of_client for each in kills)
    print(
        f"{len(kills)} uploads: {of_client} with their client killed, {len(kills) - of_client} with the service, "
        f"{sum(each.comes_back for each in kills)} resumed, {len(kills) - reached} without reaching the step; "
        f"{ready} READY; swept: {', '.join(f'{count} {reason}' for reason, count in sorted(swept.items()))}; "
        f"{failed} violations; {time.monotonic() - started:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The service or a command with a fault in one of its calls: ``python -m tests.crash.faulty``, once for many processes.

It imports the service once and forks a process for each line of JSON on its input, so a start takes milliseconds. The
calls are named ``redis:…``, ``s3:…``, ``fs:…`` and, of `avion-media upload`, ``client:…``. They are counted per name,
from 1, in each process.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

_ID = re.compile(
    r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b|\b[0-9a-f]{64}\b|\d{4}/\d\d/\d\d|(?<=}:)\d+|(?<=/examined-)[0-9a-f]+"
    r"|(?<={)\w\w(?=})|[0-9a-f]{12}(?=\.crash\.example)"
)
_PR_SET_PDEATHSIG = 1
KILLED = 9
HANG_S = 1.3  # longer than a lease, and than the timeout of a call


@dataclass(frozen=True)
class Fault:
    """``how`` is one of `points.HOWS`, at the ``nth`` call of that name."""

    name: str
    nth: int
    how: str


class Injector:
    """Counts calls, writes each to ``trace``, and returns the fault at its call."""

    def __init__(self, fault: Fault | None, trace: str) -> None:
        self._fault = fault
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def arrive(self, name: str) -> str | None:
        """Return how this call must fail, or None."""
        name = _ID.sub("ID", name)
        with self._lock:
            self._counts[name] += 1
            nth = self._counts[name]
        fires = self._fault is not None and (self._fault.name, self._fault.nth) == (name, nth)
        _write(self._trace, f"{'!' if fires else ' '} {nth} {name}\n".encode())
        if not fires:
            return None
        assert self._fault is not None
        return self._fault.how


# The service's own calls are patched; these are ours.
_write, _pwrite, _kill = os.write, os.pwrite, os.kill
_TemporaryFile = tempfile.TemporaryFile
_injector: Injector | None = None


def _arrive(name: str) -> str | None:
    return _injector.arrive(name) if _injector is not None else None


def _before(how: str | None) -> None:
    if how == "killed before":
        os._exit(KILLED)
    if how in ("stopped", "stopped, then raises"):
        _kill(os.getpid(), signal.SIGSTOP)


def _after(how: str | None) -> None:
    if how == "killed after":
        os._exit(KILLED)


def patch_files() -> None:
    """Patch calls to the file system. A hang stops the whole process, like a dying disk."""

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            how = _arrive(f"fs:{name}")
            _before(how)
            if how == "hangs":
                time.sleep(HANG_S)
            if how == "raises":
                raise OSError(28, "No space left on device")
            if how == "stopped, then raises":
                raise OSError(13, "Permission denied")  # not an outage, but a failure of this attempt
            result = call(*args, **kwargs)
            _after(how)
            if how == "reply lost":
                raise OSError(5, "Input/output error")
            return result

        return faulty

    for name in ("pwrite", "pread", "preadv", "ftruncate"):
        setattr(os, name, wrap(name, getattr(os, name)))
    tempfile.TemporaryFile = wrap("TemporaryFile", _TemporaryFile)


def patch_redis() -> None:
    """Patch every command; scripts have their own names."""
    import trio
    from coredis.exceptions import ConnectionError as NoConnection

    import trio_redis.node
    from avion_media.backends.queue import scripts
    from avion_media.backends.redis import Script
    from avion_media.backends.remote import hosts
    from avion_media.items.deletion import scripts as deletion_scripts

    everything = (*vars(scripts).values(), *vars(deletion_scripts).values(), *vars(hosts).values())
    named = {each.sha1: each.name for each in everything if isinstance(each, Script)}
    adapter: Any = trio_redis.node
    send = adapter.send

    def name_of(command: tuple[Any, ...]) -> str:
        word = str(command[0])
        if word in ("EVALSHA", "EVAL"):
            source = str(command[1])
            sha1 = source if word == "EVALSHA" else hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            return f"redis:{named.get(sha1, 'script')} {command[3]}"
        key = command[1] if len(command) > 1 and word not in ("XREADGROUP", "CLIENT") else ""
        return f"redis:{word} {key}"

    class Faulty:
        def __init__(self, connection: Any, command: tuple[Any, ...], how: str) -> None:
            self.connection, self.command, self.how = connection, command, how

        def __await__(self) -> Any:
            return self._run().__await__()

        async def _run(self) -> Any:
            _before(self.how)
            if self.how in ("raises", "stopped, then raises"):
                self.connection.invalidate()
                raise NoConnection("cut before the request")
            if self.how == "hangs":
                await trio.sleep_forever()  # until the adapter's deadline
            await send(self.connection, self.command)
            _after(self.how)
            self.connection.invalidate()
            raise NoConnection("cut before the reply")

    def faulty(connection: Any, command: tuple[Any, ...]) -> Any:
        how = _arrive(name_of(command))
        return send(connection, command) if how is None else Faulty(connection, command, how)

    adapter.send = faulty


def patch_s3() -> None:
    """Patch every S3 operation. After ``reply lost`` it is repeated; after ``lost for good`` that fails too."""
    import trio
    from botocore.client import BaseClient
    from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
    from botocore.httpsession import URLLib3Session

    from avion_media.common.errors import Dependency, Unavailable
    from trio_s3 import Requests

    client: Any = BaseClient
    session: Any = URLLib3Session
    call, send = client._make_api_call, session.send
    local = threading.local()

    def faulty_call(self: Any, operation: str, kwargs: dict[str, Any]) -> Any:
        return faulty(lambda: call(self, operation, kwargs), operation, kwargs.get("Key", kwargs.get("Prefix", "")))

    def faulty_quick(name: str, operation: str) -> None:
        quick_request = getattr(Requests, name)

        async def run(self: Any, wanted: Any, *source: Any) -> Any:
            how = _arrive(f"s3:{operation} {getattr(wanted, 'key', wanted)}")
            _before(how)
            if how in ("raises", "stopped, then raises"):
                raise Unavailable(Dependency.STORE, "cut before the request")
            if how == "hangs":
                await trio.sleep(HANG_S)
                raise Unavailable(Dependency.STORE, "no answer")
            result = await quick_request(self, wanted, *source)
            _after(how)
            if how == "lost for good":
                raise Unavailable(Dependency.STORE, "no answer")
            return await run(self, wanted, *source) if how == "reply lost" else result

        setattr(Requests, name, run)

    def faulty(made: Callable[[], Any], operation: str, key: str) -> Any:
        how = _arrive(f"s3:{operation} {key}")
        _before(how)
        if how in ("raises", "stopped, then raises"):
            raise EndpointConnectionError(endpoint_url="http://store")
        if how == "hangs":
            time.sleep(HANG_S)
            raise ReadTimeoutError(endpoint_url="http://store")
        local.lose = how == "reply lost"
        result = made()
        _after(how)
        if how == "lost for good":
            raise ReadTimeoutError(endpoint_url="http://store")
        return result

    def faulty_send(self: Any, request: Any) -> Any:
        response = send(self, request)
        if getattr(local, "lose", False):
            local.lose = False
            raise ConnectionClosedError(endpoint_url=request.url)
        return response

    client._make_api_call = faulty_call
    for name in ("get", "head", "put", "delete"):
        faulty_quick(name, f"{name.title()}Object")
    for name in ("list_keys", "list_objects"):
        faulty_quick(name, "ListObjectsV2")
    session.send = faulty_send


def patch_client() -> None:
    """Patch `avion-media upload`: its calls, its PUTs, each chunk of them, and its file for ``--resume``."""
    import httpx

    from avion_media.cli import client
    from avion_media.cli.client import Memory
    from trio_grpc.client import Channel

    def awaited(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def faulty(*args: Any, **kwargs: Any) -> Any:
            how = _arrive(name)
            _before(how)
            result = await call(*args, **kwargs)
            _after(how)
            return result

        return faulty

    unary, chunks_of, remember = Channel.unary, client._bytes_of, Memory.remember

    async def faulty_unary(self: Channel, path: str, *args: Any, **options: Any) -> Any:
        return await awaited(f"client:{path.rpartition('/')[2]}", unary)(self, path, *args, **options)

    async def faulty_chunks(*args: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks_of(*args):
            how = _arrive("client:chunk")
            _before(how)
            yield chunk
            _after(how)

    def faulty_remember(*args: Any) -> None:
        how = _arrive("client:remember")
        _before(how)
        remember(*args)
        _after(how)

    patched: tuple[Any, ...] = (Channel, httpx.AsyncClient, client, Memory)
    patched[0].unary = faulty_unary
    patched[1].put = awaited("client:PUT", httpx.AsyncClient.put)
    patched[2]._bytes_of = faulty_chunks
    patched[3].remember = faulty_remember


def run_command(arguments: list[str], later_s: float) -> None:
    """Run `avion-media` with these arguments. The clock of a sweep is ``later_s`` seconds ahead."""
    from avion_media.cli import command_line, sweep

    patched: Any = sweep
    patched.Reconciliation = partial(patched.Reconciliation, clock=partial(_later, timedelta(seconds=later_s)))
    sys.argv = ["avion-media", *arguments]
    command_line()


def _later(ahead: timedelta) -> datetime:
    return datetime.now(UTC) + ahead


def begin(line: dict[str, Any]) -> None:
    """Run in the forked process. Never returns."""
    global _injector
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(line["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(line["environment"])
    try:
        from avion_media.config import load
        from avion_media.service import serve as serve_tree
        from tests.crash import sabotage, warm_fork_server

        if {"processing", "cache", "grpc"} & set(line["roles"]):
            warm_fork_server.leave_one_behind()
        fault = Fault(**line["fault"]) if line["fault"] else None
        if line["sabotage"]:
            sabotage.SABOTAGES[line["sabotage"]]()
        if line["whole_video_bytes"] is not None:
            import avion_media.workers.processor as processor

            processor.WHOLE_VIDEO_BYTES = line["whole_video_bytes"]
        _injector = Injector(fault, line["trace"])
        if line["command"]:
            run_command(line["command"], line["later_s"])
        else:
            serve_tree(load(), frozenset(line["roles"]))
    except BaseException:  # noqa: BLE001 - the end of a process
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    """Fork a process per line, and print its id."""
    patch_files()
    import avion_media.service
    import tests.crash.sabotage  # noqa: F401
    from tests.crash import warm_fork_server
    from tests.service.commands import settle

    assert avion_media.service
    warm_fork_server.load_codecs()
    patch_redis()
    patch_s3()
    patch_client()
    settle()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # their exit statuses are not needed
    for text in sys.stdin:
        pid = os.fork()
        if pid == 0:
            begin(json.loads(text))
        print(pid, flush=True)


if __name__ == "__main__":
    main()

"""Redis and an S3 store as supervised children, for `avion-media dev`: everything on one machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from avion_media.common.errors import MediaError
from supervisors import Child, Worker
from trio_sandbox.kernel import describe_exit

_PROBE_S = 0.05
_TERM_S = 3.0  # to end after SIGTERM; then it is killed
_GRACE_S = _TERM_S + 2.0


class CannotEmbed(MediaError):
    """A program that `dev` needs is missing or does not start; the text says how to get it."""


def check_programs() -> None:
    """Raise `CannotEmbed` that lists everything missing, and how to get it."""
    missing = []
    if shutil.which("redis-server") is None:
        missing.append("redis-server is not installed: apt-get install redis-server   (or: brew install redis)")
    try:
        import moto.server  # noqa: F401 - only whether it is there
    except ImportError:
        missing.append("the embedded S3 store is not installed: pip install avion-media[dev-store]")
    if missing:
        raise CannotEmbed("\n".join(missing))


def redis_node(port: int) -> Worker[None]:
    """A redis-server on ``port``, with the settings that the service asks for. Its data end with it."""
    return Worker("redis-server", partial(_run_redis, port), grace_s=_GRACE_S, start_timeout_s=15.0)


def store_node(port: int) -> Worker[None]:
    """moto's S3 on ``port``; objects live in its memory."""
    command = [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return Worker("s3-store", partial(_run_program, command, port), grace_s=_GRACE_S, start_timeout_s=30.0)


async def _run_redis(port: int, child: Child[None]) -> None:
    with tempfile.TemporaryDirectory(prefix="avion-media-redis-") as directory:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        await _run_program([*command, "--save", "", "--appendonly", "yes"], port, child)


async def _run_program(command: Sequence[str], port: int, child: Child[None]) -> None:
    """Run a server in the foreground; ready when its port answers. It ends with this child, however that ends."""
    with tempfile.TemporaryFile() as output:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C at a terminal is for the service, which then stops it in its turn
        )
        try:
            with child.until_stopping():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_wait_exit, process, command[0], output.fileno())
                    await _answering(port)
                    child.started()
        finally:
            process.terminate()
            with trio.CancelScope(shield=True), trio.move_on_after(_TERM_S):  # bounded: then it is killed
                await process.wait()
            process.kill()


async def _wait_exit(process: trio.Process, program: str, output: int) -> None:
    returncode = await process.wait()
    tail = Path(f"/proc/self/fd/{output}").read_text(errors="replace").strip().splitlines()[-3:]  # noqa: ASYNC240
    raise CannotEmbed(f"{Path(program).name} {describe_exit(returncode)}: {' / '.join(tail)}")


async def _answering(port: int) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(_PROBE_S)
            continue
        await stream.aclose()
        return

"""``avion-media dev``: everything on one machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from avion_media.cli.client import Client, open_client
from avion_media.cli.media import describe, print_status, upload_all
from avion_media.cli.output import console, load_config
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.common.errors import Unavailable
from avion_media.common.settings import PREFIX, Bind
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config, ConfigError
from avion_media.media.sandbox import open_sandbox
from avion_media.nodes.embedded import CannotEmbed, check_programs, redis_node, store_node
from avion_media.operations.setup import prepare
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import ROLES, Runtime
from avion_media.process.tree import Tree
from avion_media.servers.settings import DEVELOPMENT
from avion_media.service import TreeFailed, serve
from supervisors import Child, Node, Worker

_REQUIRE = f"{PREFIX}SANDBOX__REQUIRE"
_EMBEDDED_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "avion-dev", "AWS_SECRET_ACCESS_KEY": "avion-dev-secret"}


@click.command("dev")
@click.option(
    "--demo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Upload the files of this folder, and print their states.",
)
@click.option("--once", is_flag=True, help="With --demo: exit when it is done; 1 if a file failed.")
@click.option("--free-ports", is_flag=True, help="Take free ports instead of the configured ones.")
def dev_command(demo: Path | None, once: bool, free_ports: bool) -> None:
    """Start Redis and an S3 store as supervised children, prepare them, serve, print the addresses."""
    if once and demo is None:
        raise UsageError("--once goes with --demo")
    try:
        check_programs()
    except CannotEmbed as error:
        raise CommandFailed(*str(error).splitlines()) from None
    failures: list[str] = []
    with ExitStack() as reserved:
        config, redis_port, store_port = _embedded_config(
            load_config(), reserved, free_ports=free_ports, demo=demo is not None
        )
        try:
            config = _without_required_sandbox_if_impossible(config)
            serve(
                config,
                frozenset(ROLES),
                before=lambda runtime: _embedded_nodes(runtime, redis_port, store_port),
                alongside=partial(_show, config, demo=demo, once=once, failures=failures),
            )
        except ConfigError as error:
            raise UsageError(*error.problems) from None
        except TreeFailed as error:
            raise CommandFailed(*error.lines) from error
    if failures:
        raise CommandFailed(*failures)


def _embedded_config(config: Config, reserved: ExitStack, *, free_ports: bool, demo: bool) -> tuple[Config, int, int]:
    """Return the configuration of `dev`, and the ports of Redis and the store. They are kept until ``reserved`` ends.

    A demo takes a free port where the usual one is taken, so that it can run beside another. It prints its addresses.
    """
    redis_port, store_port = _reserve_port(reserved), _reserve_port(reserved)
    for name, value in _EMBEDDED_CREDENTIALS.items():
        os.environ.setdefault(name, value)
    store_url = f"http://127.0.0.1:{store_port}"
    changes: dict[str, Any] = {
        "redis": config.redis.model_copy(update={"url": f"redis://127.0.0.1:{redis_port}/0"}),
        "s3": config.s3.model_copy(update={"endpoint_url": store_url, "public_endpoint_url": store_url}),
        "admin": config.admin.model_copy(update={"uploads": True, "environment": DEVELOPMENT}),
        # A receiver of webhooks may start later.
        "remote": config.remote.model_copy(update={"breaker_pause": min(config.remote.breaker_pause, 2.0)}),
        "chaos": config.chaos.model_copy(update={"enabled": True}),  # a kill costs nothing here
        # No load balancer has to be notified before a development server stops.
        "drain": config.drain.model_copy(update={"settle": 0.0, "grace": min(config.drain.grace, 10.0)}),
    }
    if f"{PREFIX}LOG__LEVEL" not in os.environ:  # the terminal belongs to what `dev` itself prints
        changes["log"] = config.log.model_copy(update={"level": "warning"})
    for port in ("grpc", "http", "admin"):
        bind = getattr(config, port).bind
        if not free_ports:
            problem = _why_taken(bind, reserved)
            if not problem:
                continue
            if not demo or f"{PREFIX}{port.upper()}__BIND" in os.environ:
                variable = f"{PREFIX}{port.upper()}__BIND"
                raise CommandFailed(f"{bind}: {problem}; set {variable} to another address, or use --free-ports")
        free = Bind(host="127.0.0.1", port=_reserve_port(reserved))
        changes[port] = changes.get(port, getattr(config, port)).model_copy(update={"bind": free})
    return config.model_copy(update=changes), redis_port, store_port


def _without_required_sandbox_if_impossible(config: Config) -> Config:
    """Require the sandbox if this machine can have it. Otherwise do without it, and print what that means.

    ``SANDBOX__REQUIRE`` in the environment decides alone, as for `serve`.
    """
    if _REQUIRE in os.environ:
        return config
    gaps = trio.run(_find_gaps)
    if not gaps:
        return config
    click.echo(
        f"This machine cannot confine decoders fully; a hijacked one could: {', '.join(gaps)}.\n"
        f"`dev` goes on as with {_REQUIRE}=false: upload only files that you trust."
        " `serve` would refuse to start here.",
        err=True,
    )
    return config.model_copy(update={"sandbox": config.sandbox.model_copy(update={"require": False})})


async def _find_gaps() -> Sequence[str]:
    """Return what the sandbox's self-test finds; nothing if there is no sandbox, because the tree reports that."""
    try:
        async with open_sandbox(budget_bytes=1 << 30) as sandbox:
            return sandbox.report.gaps
    except Unavailable:
        return ()


def _reserve_port(reserved: ExitStack) -> int:
    """Return a free port that the kernel gives to nothing else before ``reserved`` ends.

    A socket stays bound to it and never listens. On Linux, a server with SO_REUSEADDR, as all of ours have, can listen
    there all the same. Elsewhere it cannot, and the port could be lost before the server has it.
    """
    holder = reserved.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform != "linux":
        holder.close()
    return port


def _why_taken(bind: Bind, reserved: ExitStack) -> str:
    """Return why a port cannot be listened on, before anything starts; empty if it can.

    Then no other `dev` takes this port before ``reserved`` ends, although nothing listens there for some seconds. A
    Unix socket of this name claims it: the kernel gives a name to one process, and frees it when that process ends.
    """
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
            if bind.port and sys.platform == "linux":  # elsewhere a name is a file, which stays after a crash
                reserved.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0avion-media-dev {bind}")
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _embedded_nodes(runtime: Runtime, redis_port: int, store_port: int) -> Iterable[Node[Any]]:
    async def prepared(child: Child[None]) -> None:
        await prepare(runtime.config, new_bucket=True)
        child.started()
        await child.stopping.wait()

    return (redis_node(redis_port), store_node(store_port), Worker("prepare", prepared))


async def _show(
    config: Config, runtime: Runtime, tree: Tree, *, demo: Path | None, once: bool, failures: list[str]
) -> None:
    """Once everything runs, print the addresses and run the demo. With ``once``, request the stop."""
    await runtime.lifecycle.reached(Phase.READY)
    addresses = {name: "{}:{}".format(*await node.wait_started()) for name, node in tree.ports.items()}
    out = console()
    out.print(f"\n[bold]avion-media is ready[/bold]   origin http://{addresses['http']}   gRPC {addresses['grpc']}")
    out.print(f"  store {config.s3.endpoint_url}   Redis {config.redis.url}")
    out.print(
        "  The store checks no signatures, and both forget everything in the end: use them only to try things out.\n"
    )
    if demo is not None:
        try:
            async with open_client(config) as client:
                failures += await _demonstrate(client, demo, f"http://{addresses['http']}")
        except CommandFailed as failed:
            failures += failed.lines
    if once:
        runtime.stop_requested.set()
    else:
        # Redis and the store are always on free ports: without this, `queues` in another terminal would look elsewhere.
        out.print(
            "Ctrl-C stops everything. In another terminal, paste the line `export …` before other commands or programs."
        )
        out.print(f"Console: http://{addresses['admin']}/console", highlight=False, soft_wrap=True)
        out.print(exports(config), highlight=False, soft_wrap=True)


async def _demonstrate(client: Client, folder: Path, base_url: str) -> list[str]:
    """Upload every file of the folder. Return what went wrong."""
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")))  # noqa: ASYNC240
    ended, problems = await upload_all(client, files, show=True)
    for file, status in ended:
        print_status(describe(status, base_url), file.name)
    failed = [f"{file}: {status.reason}" for file, status in ended if status.state != wire.MediaStatus.READY]
    console().print(f"\n{len(ended) - len(failed)} of {len(files)} files ready\n")
    return [problem for _, problem in problems] + failed


def exports(config: Config) -> str:
    """Return the shell command that points other commands to this service, its Redis and its store."""
    defaults = Config()
    settings = {
        **{
            f"{PREFIX}{port.upper()}__BIND": str(getattr(config, port).bind)
            for port in ("grpc", "http", "admin")
            if getattr(config, port).bind != getattr(defaults, port).bind
        },
        f"{PREFIX}REDIS__URL": config.redis.url,
        f"{PREFIX}S3__ENDPOINT_URL": config.s3.endpoint_url,
        **_EMBEDDED_CREDENTIALS,
    }
    return " ".join(["export", *(f"{name}={value}" for name, value in settings.items())])

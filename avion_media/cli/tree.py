"""``avion-media tree`` and ``avion-media chaos``: what asks the admin port of a running service."""

from __future__ import annotations

import random
import time
from typing import Any

import click
import httpx
from rich.markup import escape
from rich.tree import Tree

from avion_media.cli.client import admin_tls_context, operator_headers
from avion_media.cli.output import console, json_option, load_config, print_json
from avion_media.cli.problems import CommandFailed
from avion_media.common.settings import PREFIX
from avion_media.process.tree import walk

_STYLES = {"running": "green", "starting": "yellow", "backoff": "red", "failed": "bold red", "stopping": "yellow"}
_TIMEOUT_S = 5.0
PAUSE_S = (0.5, 2.0)  # between two kills
_OUT_OF_REACH_S = 10.0  # a killed admin port can take this long to come back


def open_admin() -> httpx.Client:
    """Return a client of the admin port, with an operator's token if there is one. Close it."""
    config = load_config().admin
    url = f"{config.scheme}://{config.bind.reachable}"
    verify = admin_tls_context(config) if config.tls_cert else True
    return httpx.Client(
        base_url=url, headers=operator_headers(config), verify=verify, trust_env=False, timeout=_TIMEOUT_S
    )


def _fetch(client: httpx.Client, wait_s: float = 0.0) -> dict[str, Any]:
    """Return the live tree. Wait up to ``wait_s`` for an admin port that is being restarted."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            response = client.get("/tree")
            if response.status_code == httpx.codes.UNAUTHORIZED:
                raise CommandFailed(f"{response.url} is for operators: give their token as {PREFIX}ADMIN__TOKEN")
            tree: dict[str, Any] = response.raise_for_status().json()
            return tree
        except httpx.HTTPError as error:
            if time.monotonic() >= deadline:
                problem = f"cannot read {client.base_url.join('/tree')}: {error}"
                raise CommandFailed(f"{problem} (is the service running? see {PREFIX}ADMIN__BIND)") from None
            time.sleep(0.1)


@click.command("tree")
@json_option
def tree_command(as_json: bool) -> None:
    """Show the live tree: states, restarts, last errors, uptimes."""
    with open_admin() as client:
        tree = _fetch(client)
    print_json(tree) if as_json else console().print(_drawn(tree))


def _drawn(node: dict[str, Any], parent: Tree | None = None) -> Tree:
    style = _STYLES.get(node["state"], "dim")
    label = f"{node['name']} [{style}]{node['state']}[/{style}]"
    if "phase" in node:  # the root's: the phase of the process
        label += f" [bold]{node['phase']}[/bold]"
    if node.get("uptime_s") is not None:
        label += f" [dim]{node['uptime_s']:.0f} s[/dim]"
    if node["restarts"]:
        label += f" [yellow]{node['restarts']} restart{'s' if node['restarts'] > 1 else ''}[/yellow]"
    if node["last_failure"]:
        label += f" [red]{escape(node['last_failure'].splitlines()[-1][:100])}[/red]"
    branch = Tree(label) if parent is None else parent.add(label)
    for child in node["children"]:
        _drawn(child, branch)
    return branch


@click.command("chaos")
@click.option("--seed", type=int, required=True, help="The same seed makes the same choices.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Duration of the run.")
def chaos_command(seed: int, seconds: float) -> None:
    """Kill nodes of the live tree at random. The service must run with AVION_MEDIA_CHAOS__ENABLED=true."""
    chance = random.Random(seed)
    kills = 0
    with open_admin() as client:
        _, *below = walk(_fetch(client, _OUT_OF_REACH_S))
        paths = sorted(node["path"] for node in below)
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            time.sleep(chance.uniform(*PAUSE_S))
            path = chance.choice(paths)
            killed = _kill(client, path)
            kills += killed
            console().print(f"{path}{'' if killed else ' (was down already)'}")
        restarts = _wait_whole(client)
    console().print(f"{kills} nodes killed, everything runs again, {restarts} restarts in all")


def _kill(client: httpx.Client, path: str) -> bool:
    """Kill a node; return whether it was up. A kill of the admin port, or of a node to its left, gets no response."""
    try:
        answer = client.post("/chaos/kill", params={"path": path})
    except httpx.HTTPError:
        _fetch(client, _OUT_OF_REACH_S)
        return True
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise CommandFailed(f"{client.base_url} kills nothing: start the service with {PREFIX}CHAOS__ENABLED=true")
    if answer.status_code == httpx.codes.CONFLICT:  # it was down
        return False
    answer.raise_for_status()
    return True


def _wait_whole(client: httpx.Client) -> int:
    """Wait until every node runs. Return the number of restarts."""
    deadline = time.monotonic() + _OUT_OF_REACH_S
    while True:
        tree = _fetch(client, _OUT_OF_REACH_S)
        nodes = list(walk(tree))
        down = [node["path"] for node in nodes if node["state"] != "running"]
        if not down:
            return sum(node["restarts"] for node in nodes)
        if time.monotonic() > deadline:
            raise CommandFailed(f"not running again after {_OUT_OF_REACH_S:g} s: {', '.join(down)}")
        time.sleep(0.1)

"""``avion-media chaos``: kills random nodes of a running service, to test that it recovers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import click
import httpx

from avion_media.cli.client import reachable
from avion_media.cli.output import CommandFailed, UsageError, console, load_config
from avion_media.cli.tokens import check_admitted, operator_headers
from avion_media.common.settings import PREFIX

_TIMEOUT_S = 5.0
_OUT_OF_REACH_S = 10.0  # the admin port is killed, too, and can take this long to come back


@click.command("chaos")
@click.option("--seed", type=int, required=True, help="The same seed makes the same choices.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Duration of the run.")
@click.option("--interval", default="0.5-2", show_default=True, help="Seconds between two kills, as MIN-MAX.")
def chaos_command(seed: int, seconds: float, interval: str) -> None:
    """Kill nodes of the live tree at random. The service must run with AVION_MEDIA_CHAOS__ENABLED=true."""
    least_s, most_s = _parse_interval(interval)
    config = load_config().admin
    url = f"http://{reachable(config.bind)}"
    chance = random.Random(seed)
    ends_at = time.monotonic() + seconds
    kills = 0
    with httpx.Client(base_url=url, headers=operator_headers(config), trust_env=False, timeout=_TIMEOUT_S) as client:
        paths = sorted(_paths(_tree(client)))
        while time.monotonic() < ends_at:
            time.sleep(chance.uniform(least_s, most_s))
            path = chance.choice(paths)
            killed = _kill(client, path)
            kills += killed
            console().print(f"{path}{'' if killed else ' (was down already)'}")
        restarts = _wait_whole(client)
    console().print(f"{kills} nodes killed, everything runs again, {restarts} restarts in all")


def _parse_interval(text: str) -> tuple[float, float]:
    least, _, most = text.partition("-")
    try:
        bounds = float(least), float(most or least)
    except ValueError:
        bounds = (0.0, 0.0)
    if not 0 < bounds[0] <= bounds[1]:
        raise UsageError(f"--interval {text}: expected two numbers of seconds, such as 0.5-2")
    return bounds


def _tree(client: httpx.Client) -> dict[str, Any]:
    """Return the live tree. Wait for an admin port that is being restarted."""
    deadline = time.monotonic() + _OUT_OF_REACH_S
    while True:
        try:
            tree: dict[str, Any] = check_admitted(client.get("/tree")).json()
            return tree
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                problem = f"cannot read the tree at {client.base_url}: {error} (see {PREFIX}ADMIN__BIND)"
                raise CommandFailed(problem) from None
            time.sleep(0.1)


def _paths(node: dict[str, Any]) -> Iterator[str]:
    for child in node["children"]:
        yield child["path"]
        yield from _paths(child)


def _kill(client: httpx.Client, path: str) -> bool:
    """Kill a node; return whether it was up. A kill of the admin port, or of a node to its left, gets no response."""
    try:
        answer = client.post("/chaos/kill", params={"path": path})
    except httpx.HTTPError:
        _tree(client)
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
        tree = _tree(client)
        nodes = list(_nodes(tree))
        down = [node["path"] for node in nodes if node["state"] != "running"]
        if not down:
            return sum(node["restarts"] for node in nodes)
        if time.monotonic() > deadline:
            raise CommandFailed(f"not running again after {_OUT_OF_REACH_S:g} s: {', '.join(down)}")
        time.sleep(0.1)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _nodes(child)

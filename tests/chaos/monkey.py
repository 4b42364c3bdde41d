"""Kills nodes of a running service at random, by the route of its admin port."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.service.harness import Service, eventually

_PAUSE_S = (0.5, 2.0)  # between two kills
_OUT_OF_REACH_S = 10.0  # a killed admin port can take this long to come back


def let_loose(service: Service, seed: int, seconds: float) -> str:
    """Kill for that long, and wait until every node runs again. Return what was done. The same seed chooses alike."""
    chance, kills, ends_at = random.Random(seed), 0, time.monotonic() + seconds
    with httpx.Client(base_url=service.admin_url, trust_env=False, timeout=5) as client:
        _, *below = _nodes(_tree(client))
        paths = sorted(node["path"] for node in below)
        while time.monotonic() < ends_at:
            time.sleep(chance.uniform(*_PAUSE_S))
            kills += _kill(client, chance.choice(paths))
        eventually(lambda: all(node["state"] == "running" for node in _nodes(_tree(client))), "every node to run again")
        restarts = sum(node["restarts"] for node in _nodes(_tree(client)))
    return f"{kills} nodes killed, {restarts} restarts in all"


def _tree(client: httpx.Client) -> dict[str, Any]:
    """Return the live tree, once the admin port answers."""

    def read() -> dict[str, Any] | None:
        try:
            tree: dict[str, Any] = client.get("/tree").raise_for_status().json()
        except httpx.HTTPError:
            return None
        return tree

    return eventually(read, "the admin port to answer", _OUT_OF_REACH_S)


def _kill(client: httpx.Client, path: str) -> bool:
    """Kill a node. Return whether it was up. A kill of the admin port, or of a node to its left, gets no response."""
    try:
        answer = client.post("/chaos/kill", params={"path": path})
    except httpx.HTTPError:
        _tree(client)
        return True
    if answer.status_code == httpx.codes.CONFLICT:
        return False
    answer.raise_for_status()
    return True


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _nodes(child)

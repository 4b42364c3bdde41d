"""Who is restarted with whom, said once more and independently of the supervisors' own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avion_media.app import build_tree
from avion_media.config import CdnConfig, Config
from avion_media.runtime import Runtime

PURGE_URL = "http://127.0.0.1:9"  # nobody is deleted: nobody is asked
_REST_FOR_ONE = ("/", "foundation")


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a tree as ``/tree`` gives it, the root left out."""
    for child in node["children"]:
        yield child
        yield from nodes(child)


def all_paths() -> list[str]:
    """Every node of the real tree with all roles and a CDN to purge, the root left out."""
    config = Config(cdn=CdnConfig(purge_urls=(PURGE_URL,)))
    return [node["path"] for node in nodes(build_tree(Runtime(config)).root.snapshot().to_dict())]


def group_of(path: str) -> set[str]:
    """The nodes that get a new incarnation when ``path`` crashes."""
    parent, _, _ = path.rpartition("/")
    siblings = [each for each in all_paths() if each.rpartition("/")[0] == parent]
    failed = siblings[siblings.index(path) :] if (parent or "/") in _REST_FOR_ONE else [path]
    return {each for each in all_paths() if any(each == top or each.startswith(f"{top}/") for top in failed)}


def incarnations(tree: dict[str, Any]) -> dict[str, int]:
    """Path -> incarnation."""
    return {node["path"]: node["incarnation"] for node in nodes(tree)}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """The paths whose incarnation is another."""
    return {path for path in before if after[path] != before[path]}

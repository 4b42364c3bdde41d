"""Which nodes restart together, written once more, independently of the supervisors' code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from avion_media.app import build_tree
from avion_media.config import Config
from avion_media.items.settings import CdnConfig
from avion_media.process.runtime import Runtime
from avion_media.process.tree import lasting_path

PURGE_URL = "http://127.0.0.1:9"  # never requested, because nothing is deleted
_REST_FOR_ONE = ("/", "foundation")


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a tree from ``/tree``, except the root."""
    for child in node["children"]:
        yield child
        yield from nodes(child)


def all_paths() -> list[str]:
    """Return the paths of the real tree with all roles and a CDN, except the root."""
    config = Config(cdn=CdnConfig(purge_urls=(PURGE_URL,)))
    return [node["path"] for node in nodes(asdict(build_tree(Runtime(config), config).root.snapshot()))]


def group_of(path: str) -> set[str]:
    """Return the nodes that get a new incarnation when ``path`` crashes."""
    parent, _, _ = path.rpartition("/")
    siblings = [each for each in all_paths() if each.rpartition("/")[0] == parent]
    failed = siblings[siblings.index(path) :] if (parent or "/") in _REST_FOR_ONE else [path]
    return {each for each in all_paths() if any(each == top or each.startswith(f"{top}/") for top in failed)}


def incarnations(tree: dict[str, Any]) -> dict[str, int]:
    """Return the incarnation of each path, without those that come and go."""
    return {node["path"]: node["incarnation"] for node in nodes(tree) if node["path"] == lasting_path(node["path"])}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the paths whose incarnation has changed."""
    return {path for path in before if after[path] != before[path]}

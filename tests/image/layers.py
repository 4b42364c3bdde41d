"""What differs between two images: layer by layer, the files."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def digest(layout: Path) -> str:
    """Return the digest of the only image in an OCI layout, a folder."""
    (image,) = json.loads((layout / "index.json").read_text())["manifests"]
    return str(image["digest"])


def differences(first: Path, second: Path) -> list[str]:
    """Return a line for each file that two images, as OCI layouts, do not have in common, or in which they differ.

    Without one, a line for each field of their configurations.
    """
    one, two = _manifest(first), _manifest(second)
    lines = []
    for number, (before, after) in enumerate(zip(one["layers"], two["layers"], strict=True)):
        if before["digest"] != after["digest"]:
            left, right = dict(_entries(first, before)), dict(_entries(second, after))
            different = [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]
            lines += [f"layer {number}, {name}: {left.get(name)}, {right.get(name)}" for name in different]
            lines += [] if different else [f"layer {number}: the same files, in another order or form"]
    settings = json.loads(_blob(first, one["config"]).read_text()), json.loads(_blob(second, two["config"]).read_text())
    keys = [key for key in sorted({*settings[0], *settings[1]}) if settings[0].get(key) != settings[1].get(key)]
    return lines or [f"configuration, {key}: {settings[0].get(key)}, {settings[1].get(key)}" for key in keys]


def _manifest(layout: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_blob(layout, {"digest": digest(layout)}).read_text())
    return found


def _blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    return layout / "blobs" / str(descriptor["digest"]).replace(":", "/")


def _entries(layout: Path, layer: dict[str, Any]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield name, and all that counts, of each entry of a layer."""
    with tarfile.open(_blob(layout, layer)) as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            sha256 = hashlib.sha256(content.read()).hexdigest() if content else entry.linkname
            yield entry.name, (entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, sha256)

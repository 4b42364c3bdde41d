"""The native libraries that decode and draw: version, and where each comes from.

``python -m mediathumbs.native`` prints them as JSON. `load_elsewhere` reads that, for a process that must never load
what decodes.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from mediathumbs.results import LIBRARIES_OF_SYSTEM

Others = Mapping[str, tuple[str, str]]
"""More libraries of wheels, by name: distribution and module."""


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """One library. ``version`` is empty if it tells none; ``problem`` says why it cannot be loaded, or nothing."""

    name: str
    version: str = ""
    origin: str = ""
    problem: str = ""


def missing_of_system() -> list[str]:
    """Return the names of the libraries of the system that cannot be loaded."""
    return [name for name, file in LIBRARIES_OF_SYSTEM.items() if _of_system(name, file).problem]


def load_elsewhere(others: Others) -> list[NativeLibrary]:
    """Return all libraries, loaded by a process that ends afterwards; none if it dies of that. Takes half a second."""
    command = [sys.executable, "-P", "-m", __name__, json.dumps(dict(others))]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return [NativeLibrary(**each) for each in json.loads(ended.stdout or b"[]")]


def native_libraries(others: Others) -> list[NativeLibrary]:
    """Load each library, and return what it is."""
    of_wheels = OF_WHEELS | {name: (distribution, module, str) for name, (distribution, module) in others.items()}
    found = [_of_wheel(name, distribution, module, read) for name, (distribution, module, read) in of_wheels.items()]
    return found + [_of_system(name, file) for name, file in LIBRARIES_OF_SYSTEM.items()]


def _pillow(feature: str) -> Callable[[], str]:
    return lambda: import_module("PIL.features").version(feature) or "?"


def _libvips() -> str:
    return ".".join(str(import_module("pyvips").version(part)) for part in range(3))


OF_WHEELS: Final[dict[str, tuple[str, str, Callable[[], str]]]] = {
    "libavcodec": ("av", "av", lambda: ".".join(map(str, import_module("av").library_versions["libavcodec"]))),
    "libvips": ("pyvips-binary", "pyvips", _libvips),
    "libjpeg-turbo": ("pillow", "PIL.Image", _pillow("libjpeg_turbo")),
    "libwebp of Pillow": ("pillow", "PIL.Image", _pillow("webp")),
    "libavif": ("pillow", "PIL.Image", _pillow("avif")),
    "Little CMS": ("pillow", "PIL.ImageCms", _pillow("littlecms2")),
    "libheif": ("pillow-heif", "pillow_heif", lambda: str(import_module("pillow_heif").libheif_info()["libheif"])),
    "libdeflate": ("deflate", "deflate", str),
    "BlurHash": ("blurhash-rs", "blurhash_rs", str),
}
"""Those of wheels: distribution, module, and what reads the version."""
_OF_ONE_FORMAT: Final = {"libavif": "avif", "libheif": "heic"}


def needed_of_wheels(formats: Collection[str]) -> list[str]:
    """Return the names of the libraries of wheels without which files of these formats fail."""
    return [name for name in OF_WHEELS if _OF_ONE_FORMAT.get(name) in (None, *formats)]


def _of_wheel(name: str, distribution: str, module: str, read: Callable[[], str]) -> NativeLibrary:
    try:
        import_module(module)
        return NativeLibrary(name, read(), f"{distribution} {version(distribution)}")
    except (ImportError, OSError, KeyError, PackageNotFoundError) as error:
        return NativeLibrary(name, problem=f"{distribution}: {error}")


def _of_system(name: str, file: str) -> NativeLibrary:
    try:
        library = ctypes.CDLL(file)
    except OSError as error:
        return NativeLibrary(name, problem=str(error))
    number = library.WebPGetDecoderVersion() if hasattr(library, "WebPGetDecoderVersion") else 0
    told = f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}" if number else ""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return NativeLibrary(name, told, next((line.rpartition(" ")[2] for line in maps if file in line), file))


if __name__ == "__main__":
    others = json.loads(sys.argv[1]) if sys.argv[1:] else {}
    json.dump([asdict(each) for each in native_libraries(others)], sys.stdout)

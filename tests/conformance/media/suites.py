"""The suites: folders of source archives of Debian and PyPI, named by version and SHA-256."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

import httpx

BUILD = Path(__file__).parents[3] / "build/conformance"
_TIMEOUT_S = 300
_DEBIAN = "http://deb.debian.org/debian/pool/main"
_PYPI = "https://files.pythonhosted.org/packages"


@dataclass(frozen=True)
class Suite:
    """The files below ``folders`` of an archive.

    Debian removes a version some time after it has a newer one. ``apt-get source --print-uris`` prints URL and hash.
    """

    name: str
    url: str
    sha256: str
    folders: tuple[str, ...]
    disputed: tuple[str, ...] = ()  # files that decoders show differently

    def files(self) -> list[Path]:
        """Return the files, fetched and unpacked once."""
        unpacked = BUILD / self.sha256[:16]
        if not unpacked.exists():
            _unpack(_fetched(self), unpacked)
        (top,) = unpacked.iterdir()
        return sorted(path for folder in self.folders for path in (top / folder).rglob("*") if path.is_file())


SUITES = (
    Suite(
        "ExifTool",
        f"{_DEBIAN}/libi/libimage-exiftool-perl/libimage-exiftool-perl_13.25%2bdfsg.orig.tar.xz",
        "78061843d488036841728d9cb9854454cf51d60d2ab510f1fd15d4921009910f",
        ("t/images",),
    ),
    Suite(
        "PngSuite",
        f"{_DEBIAN}/libp/libpng1.6/libpng1.6_1.6.48.orig.tar.gz",
        "b17e99026055727e8cba99160c3a9a7f9af788e9f786daeadded5a42243f1dd0",
        ("contrib/pngsuite",),
    ),
    Suite(
        "libpng",
        f"{_DEBIAN}/libp/libpng1.6/libpng1.6_1.6.48.orig.tar.gz",
        "b17e99026055727e8cba99160c3a9a7f9af788e9f786daeadded5a42243f1dd0",
        ("contrib/testpngs",),
    ),
    Suite(
        "giflib",
        f"{_DEBIAN}/g/giflib/giflib_5.2.2.orig.tar.gz",
        "be7ffbd057cadebe2aa144542fd90c6838c6a083b5e8a9048b8ee3b66b29d5fb",
        ("pic", "tests"),
    ),
    Suite(
        "libvips",
        f"{_DEBIAN}/v/vips/vips_8.16.1.orig.tar.gz",
        "df960c3df02da8ae16ee19e79c9428e955d178242a8f06064e07e0c417238e6e",
        ("test/test-suite/images",),
    ),
    Suite(
        "pillow_heif",
        f"{_PYPI}/44/c1/82145984920ca055675af2c2795bd30da6f7461215c41f3c1eacb3d66353/pillow_heif-1.8.1.tar.gz",
        "521ebffb8a181d56c3904e5a61f20903edee0d9d3275967b8fb345f866215c06",
        ("tests/images",),
        # Its primary picture is declared as the thumbnail of another one: libheif shows that, and the scrub keeps the
        # primary one.
        ("invalid_id.heic",),
    ),
)


def _fetched(suite: Suite) -> Path:
    archive = BUILD / suite.url.rpartition("/")[2]
    BUILD.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        response = httpx.get(suite.url, timeout=_TIMEOUT_S, follow_redirects=True).raise_for_status()
        archive.write_bytes(response.content)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != suite.sha256:
        archive.unlink()
        raise SystemExit(f"{suite.url} has the SHA-256 {found}, not {suite.sha256}")
    return archive


def _unpack(archive: Path, target: Path) -> None:
    partial = target.with_suffix(".partial")
    with tarfile.open(archive) as packed:
        packed.extractall(partial, filter="data")
    partial.rename(target)

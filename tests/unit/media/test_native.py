"""Doctor names each native library, and those that are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from avion_media.common.formats import BY_NAME
from avion_media.config import load
from avion_media.media.native import OF_LIKENESS, needed_of_wheels
from avion_media.operations.doctor.check import CheckResult, CheckStatus, run_checks
from avion_media.operations.doctor.native import load_libraries, native_checks
from mediathumbs import LIBRARIES_OF_SYSTEM, native


async def examined(found: dict[str, native.NativeLibrary]) -> dict[str, CheckResult]:
    results: list[CheckResult] = []
    await run_checks(native_checks(BY_NAME), found, results.append)
    return {each.check: each for each in results}


async def test_each_has_a_version_and_an_origin() -> None:
    results = await examined(await load_libraries())
    assert {each.status for each in results.values()} == {CheckStatus.OK}
    assert results["has libvips"].detail.endswith(f"(pyvips-binary {version('pyvips-binary')})")
    assert results["has libavcodec"].detail.endswith(f"(av {version('av')})")
    assert "/libwebp.so.7" in results["has libwebp"].detail


async def test_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES_OF_SYSTEM, "libturbojpeg", "libturbojpeg.so.99")
    monkeypatch.setitem(native.OF_WHEELS, "libheif", ("pillow-heif", "no_such_module", str))
    assert native.missing_of_system() == ["libturbojpeg"]
    results = await examined({each.name: each for each in native.native_libraries(OF_LIKENESS)})
    missing = {name: each.status for name, each in results.items() if each.status is not CheckStatus.OK}
    assert missing == {"has libheif": CheckStatus.FAILED, "has libturbojpeg": CheckStatus.WARNING}
    assert "libturbojpeg.so.99" in results["has libturbojpeg"].detail


async def test_a_process_that_dies_is_no_answer() -> None:
    assert {each.status for each in (await examined({})).values()} == {CheckStatus.FAILED, CheckStatus.WARNING}


@pytest.mark.parametrize(
    ("module", "role", "said"),
    [
        ("av", "processing", "libavcodec cannot be loaded, and the role processing needs it: av: hidden"),
        ("pyvips", "cache", "libvips cannot be loaded, and the role cache needs it: pyvips-binary: hidden"),
        ("pillow_heif", "cache", "libheif cannot be loaded, and the role cache needs it: pillow-heif: hidden"),
    ],
)
def test_a_library_that_a_role_needs_is_one_sentence(module: str, role: str, said: str, tmp_path: Path) -> None:
    """That the others do not need them: test_hidden_libraries."""
    (tmp_path / f"{module}.py").write_text("raise ImportError('hidden')")
    command = [sys.executable, "-m", "avion_media", "config", "--roles", role]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "AVION_MEDIA_DECODERS__HEIC": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"avion-media: {said}\n")


def test_a_library_of_one_format_is_needed_only_where_that_is_switched_on() -> None:
    """HEIC is an extra of the distribution, and off by default: without it nothing is missing."""
    assert "libheif" not in native.needed_of_wheels(load({}).enabled_formats())
    assert {*native.OF_WHEELS, "NumPy", "PDQ"} == set(needed_of_wheels(["heic", "avif"]))
    assert set(native.OF_WHEELS) - set(native.needed_of_wheels(["png"])) == {"libheif", "libavif"}

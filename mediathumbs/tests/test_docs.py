"""The examples of the README, the page of the API, and what the package imports."""

from __future__ import annotations

import ast
import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mediathumbs

from .made import DATA

PACKAGE = Path(mediathumbs.__file__).parent
README = Path(__file__).parents[1] / "README.md"
FILES = {
    "photo.jpg": "jpeg-portrait-orientation-8.jpg",
    "video.mp4": "mp4-h264-3s-black-intro.mp4",
    "sound.ogg": "ogg-vorbis-comments.ogg",
}
LIBRARIES = {"PIL", "av", "blurhash_rs", "deflate", "mediascrub", "pillow_heif", "pyvips"}


def test_every_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sample in FILES.items():
        shutil.copy(DATA / sample, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    text, session, end = README.read_text(encoding="utf-8"), "", 0
    for match in re.finditer(r"```pycon\n(.*?)```", text, re.DOTALL):
        session += "\n" * text.count("\n", end, match.start(1)) + match[1]
        end = match.end(1)
    test = doctest.DocTestParser().get_doctest(session, {}, README.name, str(README), 0)
    assert len(test.examples) > 15
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_UDIFF).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_it_imports_what_it_depends_on_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, *LIBRARIES, "mediathumbs"}
    sources = list(PACKAGE.glob("*.py"))
    assert len(sources) > 10
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source


def test_the_package_itself_loads_no_decoder() -> None:
    program = "import sys, mediathumbs; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not LIBRARIES - {"mediascrub"} & set(loaded.split())


def test_all_public_names_exist() -> None:
    assert sorted(mediathumbs.__all__) == sorted(set(mediathumbs.__all__))
    assert all(hasattr(mediathumbs, name) for name in mediathumbs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        mediathumbs.unknown  # noqa: B018

"""``ops/bootstrap`` on other systems: a folder of programs stands for each, with nothing of Debian's in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.manifests import ROOT

_OF_EVERY_SYSTEM = ("cut", "dirname", "env", "find", "id", "mktemp", "rm", "sh", "sort", "tail", "touch", "tr")
_COMPILER = "x86_64-any-c++"
_SYNC = "uv sync --quiet --locked --python-preference only-system --no-python-downloads"
_LIBRARIES = ("libturbojpeg.so.0", "libwebp.so.7")


class System:
    """A checkout with the bootstrap, and a PATH with a few programs. Those that it would start note their arguments."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.log = folder / "bin", folder / "log"
        self.programs.mkdir()
        (folder / "ops").mkdir()
        self._bootstrap = shutil.copy(ROOT / "ops/bootstrap", folder / "ops/bootstrap")
        for name in _OF_EVERY_SYSTEM:
            (self.programs / name).symlink_to(shutil.which(name) or name)
        self.has("uv", f'[ "$1" = --version ] || echo "uv $*" >>{self.log}')
        self.has(_COMPILER)
        self.python()

    def has(self, name: str, script: str = "") -> None:
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def python(self, *, without: tuple[str, ...] = ()) -> None:
        """A Python that was made with a compiler of its own, and for which some names in its programs do not exist."""
        cases = "".join(f"*{name}*) exit 1;;\n" for name in without)
        self.has("python3", f'case $2 in\n{cases}*CXX*) echo {_COMPILER}; exit;;\nesac\nexec {sys.executable} -S "$@"')

    def bootstrap(self, what: str) -> tuple[int, list[str]]:
        """The exit status, and the lines that it prints."""
        done = subprocess.run(
            [self._bootstrap, what],
            env={"PATH": str(self.programs), "HOME": str(self.programs)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()

    def started(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_with_everything_there_it_prints_nothing(system: System) -> None:
    system.has("redis-server")
    assert system.bootstrap("demo") == (0, [])
    assert system.started() == [_SYNC]


def test_elsewhere_it_prints_a_line_for_each_missing_thing_and_goes_on(system: System) -> None:
    system.python(without=_LIBRARIES)
    assert system.bootstrap("demo") == (
        0,
        [
            "bootstrap: redis-server is missing (Debian's package redis-server)",
            "bootstrap: libturbojpeg.so.0 is missing (Debian's package libturbojpeg0)",
            "bootstrap: libwebp.so.7 is missing (Debian's package libwebp7)",
        ],
    )
    assert system.started() == [_SYNC]


def test_without_node_the_environments_of_python_are_made(system: System) -> None:
    (system.programs.parent / "tests/interop").mkdir(parents=True)
    (system.programs.parent / "tests/interop/package-lock.json").write_text("{}")
    status, lines = system.bootstrap("test")
    assert status == 0
    assert "bootstrap: npm is missing (Debian's package npm)" in lines
    assert "bootstrap: ceph-mon is missing (Debian's package ceph-mon)" in lines
    assert [line for line in lines if "is missing" not in line] == []
    assert system.started() == [_SYNC, f"{_SYNC} --project tests/interop/purerpc"]


@pytest.mark.parametrize("user", [0, 1000])
def test_debian_installs_what_is_missing_at_once(system: System, user: int) -> None:
    system.python(without=_LIBRARIES)
    system.has("id", f"echo {user}")
    system.has("apt-get", f'echo "apt-get $*" >>{system.log}')
    system.has("sudo", 'case $1 in -n) shift;; esac; exec "$@"')
    system.has("true")
    assert system.bootstrap("demo") == (0, ["bootstrap: installing libturbojpeg0 libwebp7 redis-server "])
    update, install, sync = system.started()
    assert (update, sync) == ("apt-get -qq update", _SYNC)
    assert install.endswith("install libturbojpeg0 libwebp7 redis-server")


def test_debian_without_root_and_sudo_is_like_elsewhere(system: System) -> None:
    system.has("id", "echo 1000")
    system.has("apt-get", f'echo "apt-get $*" >>{system.log}')
    status, lines = system.bootstrap("demo")
    assert (status, lines) == (0, ["bootstrap: redis-server is missing (Debian's package redis-server)"])
    assert system.started() == [_SYNC]


def test_a_machine_without_a_compiler_or_the_headers_of_python(system: System) -> None:
    (system.programs / _COMPILER).unlink()
    system.python(without=("Python.h",))
    assert system.bootstrap("env") == (
        0,
        [
            f"bootstrap: {_COMPILER} is missing (Debian's package g++)",
            "bootstrap: Python.h is missing (Debian's package python3-dev)",
        ],
    )


def test_a_failing_apt_get_ends_it(system: System) -> None:
    system.has("id", "echo 0")
    system.has("apt-get", "echo no network; exit 100")
    status, lines = system.bootstrap("demo")
    assert status == 1
    assert lines[1:] == ["no network", "bootstrap: apt-get failed; by hand:  apt-get install redis-server "]
    assert system.started() == []

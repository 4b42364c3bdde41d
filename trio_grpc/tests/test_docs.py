"""The README's programs run as it says, and pass the type checker. The public names exist, and have docstrings."""

from __future__ import annotations

import ast
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import trio_grpc

PACKAGE = Path(trio_grpc.__file__).parent
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's files, and what its command generates. The port is a free one."""
    folder = tmp_path_factory.mktemp("readme")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    for block in _blocks("proto") + _blocks("python"):
        name = block.partition("\n")[0].split()[1]
        (folder / name).write_text(block.replace("50051", port))
    [command] = [
        line[2:] for line in "".join(_blocks("console")).splitlines() if "protoc" in line and "pip" not in line
    ]
    arguments = shlex.split(command)[1:]
    plugin = Path(sys.executable).with_name("protoc-gen-trio-grpc")
    subprocess.run(
        [sys.executable, *arguments, f"--plugin=protoc-gen-trio-grpc={plugin}"], cwd=folder, check=True, timeout=60
    )
    return folder


def _run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, check=True, timeout=60, capture_output=True, text=True).stdout


def test_the_server_and_the_client(programs: Path) -> None:
    server = subprocess.Popen([sys.executable, "server.py"], cwd=programs, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        try:
            assert server.stdout.readline() == "listening\n"
            assert _run(programs, "client.py") == _blocks("text")[0]
        finally:
            server.terminate()
        assert server.wait(20) == 0


def test_the_other_examples(programs: Path) -> None:
    assert _run(programs, "unix.py") == "True\n"
    for name in ("around.py", "forward.py"):
        assert _run(programs, name) == ""


def test_the_examples_and_the_generated_code_are_typed(programs: Path) -> None:
    names = [each.name for each in programs.glob("*.py") if not each.name.endswith("_pb2.py")]
    assert "Success" in _run(programs, "-m", "mypy", "--strict", "--cache-dir", "types", *names)


def test_it_imports_what_it_depends_on_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "trio_grpc", "trio", "ngh2", "google"}
    for source in PACKAGE.rglob("*.py"):
        if {"tests", "build"}.intersection(source.relative_to(PACKAGE).parts):
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


@pytest.mark.parametrize("name", trio_grpc.__all__)
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    found = getattr(trio_grpc, name)
    assert found.__doc__
    for member, value in vars(found).items() if isinstance(found, type) else ():
        assert member.startswith("_") or not callable(value) or value.__doc__, member

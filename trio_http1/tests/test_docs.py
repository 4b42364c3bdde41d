"""The README's programs run as it says, and pass the type checker. The public names exist, and have docstrings."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import trio_http1

PACKAGE = Path(trio_http1.__file__).parent
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The README's files, and the port that they listen on: a free one."""
    folder = tmp_path_factory.mktemp("readme")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        name = block.partition("\n")[0].split()[1]
        (folder / f"readme_{name}").write_text(block.replace("8000", str(port)))
    return folder, port


def test_the_server_answers_and_drains(programs: tuple[Path, int]) -> None:
    folder, port = programs
    server = subprocess.Popen([sys.executable, "readme_server.py"], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        try:
            assert server.stdout.readline() == "listening\n"
            with urlopen(f"http://127.0.0.1:{port}/here", timeout=20) as response:
                assert response.read() == b"Hello from /here\n"
        finally:
            server.terminate()
        assert server.wait(20) == 0


def test_the_other_examples_run_and_all_are_typed(programs: tuple[Path, int]) -> None:
    folder, _ = programs
    for name in ("numbers", "files", "application"):
        subprocess.run([sys.executable, f"readme_{name}.py"], cwd=folder, check=True, timeout=60)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "types", *map(str, folder.glob("*.py"))]
    subprocess.run(command, cwd=folder, check=True, timeout=120)


def test_it_imports_what_it_depends_on_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "trio_http1", "trio_grpc", "trio", "h11"}
    for source in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


@pytest.mark.parametrize("name", sorted(set(trio_http1.__all__) - {"PROXIED", "Relayed"}))
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    found = getattr(trio_http1, name)
    assert found.__doc__
    for member, value in vars(found).items() if isinstance(found, type) else ():
        assert member.startswith("_") or not callable(value) or value.__doc__, member

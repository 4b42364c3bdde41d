"""The README's programs run as it says, and pass the type checker. The public names exist, and have docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import trio_s3

PACKAGE = Path(trio_s3.__file__).parent
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


class Store(BaseHTTPRequestHandler):
    """As much of S3 as the README uses: one bucket, without a check of signatures."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        """PutObject."""
        self.objects[urlsplit(self.path).path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_GET(self) -> None:
        """GetObject of bytes 2 to 4, ListObjectsV2."""
        path = urlsplit(self.path).path
        if path == "/bucket/":
            self._answer(200, b"<ListBucketResult><Key>a.txt</Key></ListBucketResult>")
        else:
            self._answer(206, self.objects[path][2:5], "bytes 2-4/10")

    def do_HEAD(self) -> None:
        """HeadObject of one that is missing."""
        self._answer(404, b"")

    def _answer(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        fields = {"ETag": '"e"', "Last-Modified": "Thu, 29 Feb 2024 12:00:00 GMT", "Content-Length": str(len(body))}
        if content_range:
            fields["Content-Range"] = content_range
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's files."""
    folder = tmp_path_factory.mktemp("readme")
    for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        (folder / block.partition("\n")[0].split()[1]).write_text(block)
    return folder


def _run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True, text=True).stdout


def test_the_requests_print_what_it_says(programs: Path) -> None:
    Store.objects = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = programs / "objects.py"
        program.write_text(program.read_text().replace("9000", str(server.server_port)))
        [expected] = re.findall(r"^```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
        assert _run(programs, "objects.py") == expected
        server.shutdown()


def test_the_other_examples_run_and_all_are_typed(programs: Path) -> None:
    assert _run(programs, "presigned.py").startswith("https://s3.example/bucket/incoming/1 ")
    assert _run(programs, "copies.py") == "10 5242880\n"
    files = [path.name for path in programs.glob("*.py")]
    assert "Success" in _run(programs, "-m", "mypy", "--strict", "--cache-dir", "types", *files)


def test_it_imports_what_it_depends_on_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "trio_s3", "trio", "h11"}
    for source in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


@pytest.mark.parametrize("name", [each for each in trio_s3.__all__ if isinstance(getattr(trio_s3, each), type)])
def test_a_public_class_says_what_it_does(name: str) -> None:
    found = getattr(trio_s3, name)
    assert found.__doc__
    for member, value in vars(found).items():
        assert member.startswith("_") or not callable(value) or value.__doc__, member

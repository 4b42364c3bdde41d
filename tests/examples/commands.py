"""Follow a page: run its shell commands as they stand there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_TOOLS = (
    "python3 -m venv ",
    "pip install ",
    "npm ci",
    "npm pack ",
    "npm install ",
    "apt install ",
)  # what `ops/bootstrap test` installed


def blocks(page: Path, heading: str = "", language: str = "sh") -> list[str]:
    """The code blocks of a page in one language, or of one of its sections."""
    text = page.read_text()
    if heading:
        found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"{page} has no section {heading!r}"
        text = found[2]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def script(block: str) -> str:
    """A block without the commands that install what the tests have already."""
    return "".join(line for line in block.splitlines(keepends=True) if not line.startswith(_TOOLS))


def follow(block: str, folder: Path, environment: Mapping[str, str], timeout_s: float = 400.0) -> str:
    """Run one block in a folder as a shell would, and return its output. It fails with it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script(block)],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{block}\nexited with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout

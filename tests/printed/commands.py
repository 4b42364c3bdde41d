"""Find the commands that pages print: in blocks of a shell, after the prompt of a session, and within sentences."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs/how-to").glob("*.md"), *(ROOT / "docs/runbooks").glob("*.md")])
NOT_RUN = Path(__file__).with_name("not_run.txt")

_FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<<'?(\w+)'?")
_PROGRAMS = (
    *("avion-media", "aws", "ceph", "cosign", "curl", "docker", "grep", "kubectl", "kustomize", "make", "podman"),
    *("python", "python3", "radosgw-admin", "rclone", "redis-cli", "uv"),
)
_INLINE = re.compile(rf"`((?:AVION_MEDIA_\w+=\S+ )?(?:{'|'.join(_PROGRAMS)}) [^`\n]+)`")


def name_of(page: Path) -> str:
    """The path of a page in the repository."""
    return str(page.relative_to(ROOT))


def one_line(command: str) -> str:
    """A command on one line, without comments at its end, as the list and the table name it."""
    return re.sub(r"\s+", " ", re.sub(r" {2,}#.*$", "", command, flags=re.MULTILINE)).strip()


@cache
def commands_of(page: Path) -> tuple[str, ...]:
    """Return the commands of a page from top to bottom, each once."""
    text = page.read_text()
    found = [(match.start(), command) for match in _FENCED.finditer(text) for command in _in_block(match)]
    without_blocks = _FENCED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found += [(match.start(), match[1]) for match in _INLINE.finditer(without_blocks)]
    return tuple(dict.fromkeys(command for _, command in sorted(found, key=lambda each: each[0])))


def _in_block(match: re.Match[str]) -> Iterator[str]:
    lines = [line.removeprefix(match["indent"]) for line in match["body"].splitlines()]
    if match["language"] == "console":
        yield from _of_a_session(lines)
    elif match["language"] in {"sh", "bash"}:
        rest = lines
        while rest:
            command, rest = _first(rest)
            if command.strip() and not command.lstrip().startswith("#"):
                yield command


def _of_a_session(lines: list[str]) -> Iterator[str]:
    """The commands behind a prompt. The other lines are their output."""
    while lines:
        if lines[0].startswith("$ "):
            command, lines = _first([lines[0].removeprefix("$ "), *lines[1:]])
            yield command
        else:
            lines = lines[1:]


def _first(lines: list[str]) -> tuple[str, list[str]]:
    """Return the first command, which can have several lines, and the lines after it."""
    for count in range(1, len(lines) + 1):
        command = "\n".join(lines[:count])
        end = _HEREDOC.search(command)
        if end and end[1] not in lines[:count]:
            continue
        if not command.endswith("\\") and _is_complete(command):
            return command, lines[count:]
    raise AssertionError(f"not a shell command: {lines}")


def _is_complete(command: str) -> bool:
    if not set(command) & set("'\"`$({<\\"):
        return True
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False).returncode == 0


def not_run() -> dict[tuple[str, str], str]:
    """The committed list: why a command of a page is not run, by page and command."""
    listed, reason = {}, ""
    for line in NOT_RUN.read_text().splitlines():
        if line.startswith("# "):
            reason = line.removeprefix("# ")
        elif line and reason:  # above the first reason is what the list is
            page, _, command = line.partition(": ")
            listed[page, command] = reason
    return listed

"""The pages that a new user follows, command by command, beside a running `avion-media dev`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx

from tests.console.conftest import Development, dev
from tests.examples.commands import blocks, follow
from tests.examples.conftest import ROOT, environment
from tests.service.commands import run_command
from tests.service.harness import eventually

__all__ = ["dev"]  # a fixture

FIRST_CALLS, TUTORIAL, DELETING = (
    ROOT / "docs" / name for name in ("how-to/call-from-a-program.md", "getting-started.md", "how-to/delete-media.md")
)
_MEDIA_ID = re.compile(r"\bMEDIA_ID\b|\b01[0-9A-Z]{24}\b")


def test_the_page_leads_to_uploads_an_event_and_a_deletion(dev: Development, examples: Path) -> None:
    checkout = examples.parent
    (checkout / "ops").symlink_to(ROOT / "ops")
    (checkout / "node_modules").symlink_to(ROOT / "examples/gateway-node/node_modules")
    printed = follow("".join(blocks(FIRST_CALLS)), checkout, environment(**dev.exported))
    assert printed.count(" READY\n") == 2  # Python, Node.js
    assert printed.count('"state": "READY"') == 1  # by reflection
    assert '"type":"media.ready"' in printed.replace(" ", "")
    assert '"state": "DELETED"' in printed


def test_the_tutorial_leads_to_an_upload_and_its_deletion(
    dev: Development, data_directory: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "your-photo.png"
    photo.write_bytes((data_directory / "png-display-p3-patch.png").read_bytes())
    shell = environment(**dev.exported)
    (upload,), delete, undelete, inspect = (commands_of(block) for block in blocks(TUTORIAL, language="console"))
    printed = run(upload[0].replace(photo.name, str(photo)), upload[1].replace(photo.name, str(photo)), "", shell)
    media_id = _MEDIA_ID.findall(printed)[0]
    url = next(line.split()[1] for line in printed.splitlines() if line.startswith("  url "))
    for status, commands in ((200, commands_of(blocks(TUTORIAL, "3. Look inside")[0])), (410, delete), (200, undelete)):
        for command, sample in commands:
            run(command, sample, media_id, shell)
        eventually(partial(answers, url, status), f"{url} to answer {status}")
    for command, sample in (*delete, *inspect):
        run(command, sample, media_id, shell)


def test_media_are_deleted_as_the_page_says(dev: Development, data_directory: Path) -> None:
    shell = environment(**dev.exported)
    body = str(data_directory / "jpeg-gray.jpg")
    media_id = _MEDIA_ID.findall(run(f"avion-media upload --owner alice {body}", "", "", shell))[0]
    (program,) = blocks(DELETING, "By the stream `drop_deleted`", "python")
    exec(_MEDIA_ID.sub(media_id, program).replace("redis://127.0.0.1:6379/0", dev.redis_url), {})

    def is_deleted() -> bool:
        return "DELETED" in run("avion-media status MEDIA_ID", "", media_id, shell)

    eventually(is_deleted, "the deletion by another service")
    run("avion-media undelete MEDIA_ID", "", media_id, shell)
    for heading in ("By hand", "All media of an account"):
        for command, sample in commands_of(blocks(DELETING, heading)[0]):
            run(command, sample, media_id, shell)
    assert not is_deleted()


def answers(url: str, status: int) -> bool:
    return httpx.get(url, trust_env=False, verify=False).status_code == status


def commands_of(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with what the page shows of its output. A prompt begins a command, or each line."""
    if block.startswith("$ "):
        return [(each.partition("\n")[0], each.partition("\n")[2]) for each in block[2:].split("\n$ ")]
    return [(line, "") for line in block.splitlines()]


def run(command: str, sample: str, media_id: str, shell: Mapping[str, str]) -> str:
    """Run a command with this id, and return its output, which has all that the page shows first on each line."""
    program, *arguments = shlex.split(_MEDIA_ID.sub(media_id, command), comments=True)
    assert program in ("avion-media", ".venv/bin/avion-media")
    done = run_command(*arguments, environment=shell)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    printed = done.stdout + done.stderr
    shown = {_MEDIA_ID.sub(media_id, line.split()[0]) for line in sample.splitlines()} - {"…"}
    assert shown <= {line.split()[0] for line in printed.splitlines() if line}, f"{command}: {printed}"
    return printed

"""With a native library hidden, each command says so in one sentence, or does not need it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avion_media.cli import _COMMANDS
from avion_media.media.native import OF_LIKENESS
from mediathumbs import LIBRARIES_OF_SYSTEM
from mediathumbs.native import OF_WHEELS
from tests.unit.cli import every_command

REDIS = (1, "avion-media: Redis is not available: ")
STORE = (1, "avion-media: the object store is not available: ")
SERVICE = (1, "avion-media: cannot reach the service at 127.0.0.1:1: ")
# Exit status and start of the first line, without Redis, a store or the service, and with all native libraries.
WITHOUT_SERVICES = {
    "--help": (0, "Usage: avion-media "),
    "init": REDIS,
    "upload": SERVICE,
    "import": (2, "avion-media: /dev/null: the first line must name the columns"),
    "cache": SERVICE,
    "status": SERVICE,
    "delete": STORE,
    "undelete": STORE,
    "block": REDIS,
    "unblock": STORE,
    "evidence": STORE,
    "hosts": REDIS,
    "blocklist": REDIS,
    "review": STORE,
    "audit": STORE,
    "tokens": STORE,
    "inspect": STORE,
    "usage": STORE,
    "owner": STORE,
    "queues": REDIS,
    "dlq": REDIS,
    "jobs": REDIS,
    "webhooks": (2, "avion-media: there are no endpoints: "),
    "sweep": STORE,
    "tree": (1, "avion-media: cannot read http://127.0.0.1:1/tree: "),
    "chaos": (1, "avion-media: cannot read http://127.0.0.1:1/tree: "),
    "doctor": (0, "ok "),
    "config": (0, "setting "),
}
DECODERS = sorted(
    {entry[1].partition(".")[0] for entry in OF_WHEELS.values()}
    | {module for _, module in OF_LIKENESS.values()}
    | set(LIBRARIES_OF_SYSTEM.values())
)
CALLERS = {"upload", "import", "cache", "status", "webhooks", "tree", "chaos", "config"}

# Runs in each process of Python that has its folder in PYTHONPATH, also in those that a command starts.
HIDE = """
import ctypes, os, sys
hidden = os.environ["HIDDEN"].split(",")
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ImportError(f"{name} is hidden")
class Library(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name in hidden:
            raise OSError(f"{name} is hidden")
        super().__init__(name, *arguments, **options)
sys.meta_path.insert(0, Finder())
ctypes.CDLL = Library
"""


def ended(hidden: list[str], folder: Path) -> dict[str, tuple[int, str]]:
    """Run each command without these libraries; return its exit status and first line."""
    (folder / "sitecustomize.py").write_text(HIDE)
    nowhere = "127.0.0.1:1"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "HIDDEN": ",".join(hidden),
        "AVION_MEDIA_REDIS__URL": f"redis://{nowhere}/0",
        "AVION_MEDIA_S3__ENDPOINT_URL": f"http://{nowhere}",
        "AVION_MEDIA_GRPC__BIND": nowhere,
        "AVION_MEDIA_ADMIN__BIND": nowhere,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    command = [sys.executable, every_command.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {name: (status, line) for name, (status, line) in json.loads(done.stdout).items()}


def test_the_table_has_all_commands() -> None:
    assert set(WITHOUT_SERVICES) == {"--help", *_COMMANDS} - {"serve", "dev"} == set(every_command.ARGUMENTS)


@pytest.mark.parametrize(
    ("hidden", "needed_by"),
    [
        (DECODERS, {"doctor"}),  # which names them
        (["ngh2"], CALLERS),
        (["pydantic_core"], set(WITHOUT_SERVICES) - {"--help"}),
    ],
    ids=["decoders", "ngh2", "pydantic_core"],
)
def test_each_command_ends_with_one_sentence(hidden: list[str], needed_by: set[str], tmp_path: Path) -> None:
    for command, (status, line) in ended(hidden, tmp_path).items():
        expected = WITHOUT_SERVICES[command]
        if command in needed_by:
            expected = (2, f"avion-media: a library that this command needs cannot be loaded: {hidden[0]} is hidden")
            if command == "doctor" and hidden == DECODERS:
                expected = (1, "failed   native  has libavcodec  av: av is hidden")
        assert (status, line[: len(expected[1])]) == expected, command

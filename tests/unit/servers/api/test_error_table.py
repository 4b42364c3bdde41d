"""docs/errors.md has every status that a caller can get, with its details, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from google.rpc.error_details_pb2 import ErrorInfo

from avion_media.backends.redis import RedisFull
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.records import UnreadableRecord
from avion_media.items.moderation import HostNotBlocked, NotBlocked
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import AlreadyDeleted, HostBlocked, HostDenied, NothingUploaded
from avion_media.servers.api.resumable import AlreadyCompleted, MultipartOff, NoSuchUpload, PartsMissing
from avion_media.servers.api.statuses import UnknownMedium
from avion_media.servers.api.validation import BadRequest, TooManyPending, Violation
from trio_grpc import Code

ROOT = Path(__file__).resolve().parents[4]
PARTS = ("avion_media/servers/api", "trio_grpc", "avion_media/nodes")
SOURCES = [path for part in PARTS for path in sorted((ROOT / part).glob("*.py"))]
# One for each case of `map_exception`.
MAPPED = [
    BadRequest([Violation("size", "is zero", "SIZE_ZERO")]),
    UnknownMedium("id"),
    NothingUploaded("id"),
    AlreadyDeleted("id"),
    AlreadyCompleted("id"),
    NoSuchUpload("id"),
    PartsMissing([2], 3),
    MultipartOff("why"),
    HostDenied("host"),
    HostBlocked("host"),
    HostNotBlocked("host"),
    NotBlocked("id"),
    UnreadableRecord("block", "key", "why"),
    RedisFull(),
    Unavailable(Dependency.STORE),
    TooManyPending(),
]
Told = tuple[str, str, str]
"""Code, type of the details, reason in them; the last two may be empty."""


def _rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table under a heading of the page, without its head."""
    section = (ROOT / "docs/errors.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def _named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _documented() -> set[Told]:
    told: set[Told] = set()
    for codes, _when, details in _rows("gRPC statuses"):
        kind, *reasons = _named(details) or [""]
        told |= {(code, kind, reason) for code in _named(codes) for reason in reasons or [""]}
    return told


def _calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield path, node


def _made() -> set[Told]:
    """What the code answers with: read off it where there are no details, asked of it where there are."""
    told: set[Told] = {("CANCELLED", "", "")}  # of the transport's own, when the caller resets its stream
    with_details = set()
    for path, call in _calls("RpcError"):
        code = ast.unparse(call.args[0]).removeprefix("Code.")
        if any(keyword.arg == "retry_after_s" for keyword in call.keywords):
            told.add((code, "google.rpc.RetryInfo", ""))
        elif len(call.args) < 3:
            told.add((code, "", ""))
        else:
            with_details.add((path.name, code))
    for error in MAPPED:
        mapped = map_exception(error)
        assert mapped is not None
        for detail in mapped.details:
            reason = detail.reason if isinstance(detail, ErrorInfo) else ""
            told.add((mapped.code.name, detail.DESCRIPTOR.full_name, reason))
            with_details.discard(("errors.py", mapped.code.name))
    assert not with_details
    return told


def test_every_status_is_documented_with_its_details() -> None:
    assert _documented() == _made()
    assert {code for code, _, _ in _documented()} <= {code.name for code in Code}


def test_every_reason_of_a_bad_field_is_documented() -> None:
    made = set()
    for _, call in _calls("Violation", "bad_field"):
        field, *_, reason = call.args
        if isinstance(field, ast.JoinedStr) and isinstance(field.values[0], ast.Constant):  # media_ids[number]
            field = ast.Constant(str(field.values[0].value).partition("[")[0])
        if isinstance(field, ast.Constant) and isinstance(reason, ast.Constant):
            made.add((field.value, reason.value))
    assert made
    assert {
        (*_named(field), each) for field, reasons in _rows("Reasons of bad fields") for each in _named(reasons)
    } == made

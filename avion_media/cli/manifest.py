"""The two files of an import: it reads the manifest, and writes the map from old to new."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from avion_media.cli.output import CommandFailed, UsageError
from avion_media.common.media import is_owner

_COLUMNS: Final = ("source", "name", "date", "owner")
_OPTIONAL: Final = frozenset({"name", "owner"})
_MAP_COLUMNS: Final = ("source", "media_id", "url")
_SHOWN: Final = 10  # malformed rows


class _Malformed(ValueError):
    """A row of a manifest that cannot be used."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file to import. ``date`` (UTC) becomes that of its id; ``owner`` is empty for none."""

    line: int
    source: str
    name: str
    date: datetime
    owner: str


def check_manifest(path: Path) -> int:
    """Read a manifest to its end and return how many files it names. Raises `UsageError` with what is wrong in it."""
    count = 0
    problems: list[str] = []
    for line, fields in _read(path):
        try:
            _parse(line, fields)
            count += 1
        except _Malformed as malformed:
            problems.append(f"{path}:{line}: {malformed}")
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise UsageError(*problems[:_SHOWN], *more, "nothing was imported")
    return count


def rows_of(path: Path) -> Iterator[Row]:
    """Yield the rows of a manifest that `check_manifest` has read, in constant memory."""
    return (_parse(line, fields) for line, fields in _read(path))


def _read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and fields. Paths can have bytes that are not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restval="")
        missing = [each for each in _COLUMNS if each not in (reader.fieldnames or ()) and each not in _OPTIONAL]
        if missing:
            raise UsageError(f"{path}: the first line must name the columns; not there: {', '.join(missing)}")
        for fields in reader:
            yield reader.line_num, {name: str(fields.get(name, "")).strip() for name in _COLUMNS}


def _parse(line: int, fields: dict[str, str]) -> Row:
    source, owner = fields["source"], fields["owner"]
    if not source:
        raise _Malformed("source is empty")
    if owner and not is_owner(owner):
        raise _Malformed(f"{owner!r} cannot be an owner: 1 to 64 letters, digits and . _ : -")
    try:
        date = datetime.fromisoformat(fields["date"])
    except ValueError:
        raise _Malformed(f"{fields['date']!r} is not a date, such as 2022-11-05T12:33:44Z") from None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    if not 0 <= date.timestamp() <= datetime.now(UTC).timestamp():
        raise _Malformed(f"{fields['date']} is before 1970 or in the future")
    return Row(line, source, fields["name"] or source.rpartition("/")[2], date, owner)


class RedirectMap:
    """``source,media_id,url`` for each file that is public: where old addresses lead to.

    An import adds a line for each media item that becomes public. After a kill, the next import goes on behind them.
    """

    def __init__(self, file: io.TextIOWrapper, sources: set[str]) -> None:
        self._file = file
        self._lines = csv.writer(file, lineterminator="\n")
        self._sources = sources

    def __contains__(self, source: str) -> bool:
        return source in self._sources

    def add(self, source: str, media_id: str, url: str) -> None:
        """Write a line. It stays in the file even if this process is killed."""
        self._lines.writerow((source, media_id, url))
        self._file.flush()
        self._sources.add(source)


@contextmanager
def open_map(path: Path) -> Iterator[RedirectMap]:
    """Open a map, with what an earlier import wrote. Raises `CommandFailed` while another import writes it."""
    with path.open("a+", encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(f"{path}: another import is writing it") from None
        is_new = not _cut_torn_line(file.fileno())
        file.seek(0)
        redirects = RedirectMap(file, {fields.get("source", "") for fields in csv.DictReader(file)})
        if is_new:
            redirects.add(*_MAP_COLUMNS)
        yield redirects


def _cut_torn_line(fd: int) -> int:
    """Remove an incomplete last line, which an import leaves when it is killed. Return the size of the rest."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 4096, max(0, size - 4096))
    whole = size - len(tail) + tail.rfind(b"\n") + 1
    os.ftruncate(fd, whole)
    return whole

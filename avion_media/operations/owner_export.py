"""All originals of an owner as one ZIP archive, with a table of what is in it and why a file is missing.

The archive is a stream: it holds one window of one file in memory, and about a kilobyte for each media item (the index
at the end of a ZIP). The rows of the table wait in a temporary file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import IO, Final, TypeVar

import trio

from avion_media.backends.store import ObjectInfo, ObjectStore, stored_facts
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.ids import InvalidId, MediaId, parse_media_id
from avion_media.operations.archive import Pieces
from avion_media.process.runtime import Runtime

TABLES: Final = ("media.csv", "media.json")
"""The tables in the archive, which say the same."""
PUBLISHED, DELETED, BLOCKED, GONE = "published", "deleted", "blocked", "gone"
"""States: the file is in the archive; or it is not, because it was deleted, blocked, or removed meanwhile."""
INCOMPLETE: Final = "incomplete"
"""The file was removed, replaced or blocked while it was read: the archive has its beginning."""
UNREADABLE: Final = "unreadable"
"""The store does not return the file, although it returns others."""
WINDOW_BYTES: Final = 1 << 20
_ATTEMPT_S: Final = 30.0
_PAUSES_S: Final = (0.5, 2.0, 5.0, 10.0, 20.0)  # before the second and further attempts at one window
_TABLE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Row:
    """One media item in the table; what is not known is empty or 0. ``created`` is when its upload was requested."""

    id: str
    file: str = ""
    type: str = ""
    size: int = 0
    width: int = 0
    height: int = 0
    created: str = ""
    visibility: str = ""
    sha256: str = ""
    state: str = PUBLISHED


@dataclass(slots=True)
class Exported:
    """What was exported so far: media by state, and bytes of files."""

    by_state: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0

    def __str__(self) -> str:
        others = [f"{count:,} {state}" for state, count in sorted(self.by_state.items()) if state != PUBLISHED]
        return ", ".join([f"{self.by_state.get(PUBLISHED, 0):,} files", *others])


T = TypeVar("T")
Progress = Callable[[Exported], None]


async def export(runtime: Runtime, owner: str, exported: Exported, progress: Progress) -> AsyncGenerator[bytes, None]:
    """Yield the archive of an owner, and count in ``exported``. An archive that ends early has no table.

    A store that does not answer is asked again for a minute, from the byte where it stopped. Raises `Unavailable`.
    """
    pieces, now = Pieces(), utc_now().timetuple()[:6]
    async with AsyncExitStack() as stack:
        media = await stack.enter_async_context(aclosing(_media(runtime, owner)))
        rows = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115 - the stack closes it
        # It needs no more than `Pieces` has.
        archive = stack.enter_context(zipfile.ZipFile(pieces, "w"))  # type: ignore[call-overload]

        def entry(name: str) -> IO[bytes]:
            opened: IO[bytes] = archive.open(zipfile.ZipInfo(name, now), "w", force_zip64=True)
            return opened

        async for media_id in media:
            row = await _missing(runtime, media_id)
            if not row.state:
                original = _Original(runtime.items.store.get(), row)
                window = await original.next()
                with entry(original.name) if window else nullcontext() as file:
                    while file is not None and window:
                        file.write(window)
                        exported.size_bytes += len(window)
                        progress(exported)
                        yield pieces.take()
                        window = await original.next()
                row = original.row
            exported.by_state[row.state] = exported.by_state.get(row.state, 0) + 1
            progress(exported)
            rows.write(json.dumps(asdict(row)) + "\n")
            yield pieces.take()
        for name, lines in zip(TABLES, (_csv, _json), strict=True):
            with entry(name) as file:
                for line in lines(rows):
                    file.write(line.encode())
                    if pieces.size_bytes > _TABLE_BYTES:
                        yield pieces.take()
    yield pieces.take()


async def _media(runtime: Runtime, owner: str) -> AsyncGenerator[MediaId, None]:
    """Yield the media of an owner: those of its index, and those that are blocked and in it no longer."""
    store = runtime.items.store.get()
    async for page in runtime.items.owners.media(owner):
        for owned in page:
            yield owned.media_id
    prefix = keys.blocked_of(f"owner/{owner}")
    async for names in store.list_keys(prefix):
        for name in names:
            try:
                media_id = parse_media_id(name.removeprefix(prefix))
            except InvalidId:  # another program's object
                continue
            if not [key async for found in store.list_keys(keys.owned_by(owner, media_id)) for key in found]:
                yield media_id


async def _missing(runtime: Runtime, media_id: MediaId) -> Row:
    """Return the row of a media item, with the state that keeps its file out of the archive, or an empty one."""
    text = str(media_id)
    created = media_id.created.isoformat(timespec="seconds")
    row = Row(text, created=created, visibility="private" if media_id.is_private else "public", state="")
    if await runtime.moderation.records.is_blocked(text):
        return replace(row, state=BLOCKED)
    record = (await runtime.replay.records.get_many([text])).get(text)
    return replace(row, state=DELETED) if record is not None and record.is_deleted else row


class _Original:
    """Reads one original, window by window. ``row`` says what became of it so far."""

    def __init__(self, store: ObjectStore, row: Row) -> None:
        self.row = row
        self._store = store
        self._key = keys.original(parse_media_id(row.id))
        self._info: ObjectInfo | None = None
        self._position = 0
        self._digest = hashlib.sha256()

    @property
    def name(self) -> str:
        """Its name in the archive."""
        return f"files/{self._key.rpartition('/')[2]}"

    async def next(self) -> bytes:
        """Return the next window; nothing at the end of the file, or if it cannot be read further."""
        try:
            if self._info is None:
                self._info = await _again(partial(self._store.head, self._key))
            info = self._info
            if self._position == info.size_bytes:
                self.row = _with_facts(replace(self.row, sha256=self._digest.hexdigest(), state=PUBLISHED), info)
                return b""
            window = await self._read(info.etag)
        except (ObjectMissing, PreconditionFailed):
            self.row = replace(self.row, state=INCOMPLETE if self._position else GONE)
            return b""
        except Unavailable as error:
            if error.dependency is not Dependency.OBJECT:
                raise
            self.row = replace(self.row, state=INCOMPLETE if self._position else UNREADABLE)
            return b""
        self._digest.update(window)
        self._position += len(window)
        self.row = replace(self.row, file=self.name)
        return window

    async def _read(self, etag: str) -> bytes:
        read = partial(self._store.read, self._key, self._position, WINDOW_BYTES)
        window = await _again(partial(read, max_bytes=WINDOW_BYTES, if_match=etag))
        if not window:
            raise PreconditionFailed(f"{self._key} is shorter than it was")
        return window


def _with_facts(row: Row, info: ObjectInfo) -> Row:
    facts = stored_facts(info)
    row = replace(row, type=info.content_type, size=info.size_bytes)
    return row if facts is None else replace(row, width=facts.width, height=facts.height)


async def _again(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the store answers, in up to six attempts. Errors as with `ObjectStore.read`."""
    for pause_s in _PAUSES_S:
        try:
            with trio.fail_after(_ATTEMPT_S):
                return await ask()
        except (Unavailable, trio.TooSlowError):
            await trio.sleep(pause_s)
    return await ask()  # each request of the store has its own deadline


def _csv(rows: IO[str]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.DictWriter(line, [each.name for each in fields(Row)], lineterminator="\n")
    writer.writeheader()
    rows.seek(0)
    for each in rows:
        writer.writerow(json.loads(each))
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def _json(rows: IO[str]) -> Iterator[str]:
    rows.seek(0)
    separator = "[\n"
    for each in rows:
        yield separator + each.rstrip("\n")
        separator = ",\n"
    yield "\n]\n" if separator != "[\n" else "[]\n"

"""``avion-media import``: the media of another system, through the same pipeline as any upload.

The command acts as a client without an upload URL. It writes ``incoming/{id}`` itself, because it must choose the id,
and then completes the upload as a client does. The id holds the date of the manifest, the format, and an HMAC of the
source in place of the random bits. So the same row always has the same id. By this id, the command finds what an
earlier import has done, in the bucket and in the service. The ids still cannot be guessed.
"""

from __future__ import annotations

import csv
import fcntl
import hmac
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avion_media.backends.files import open_spool
from avion_media.backends.remote import Fetcher
from avion_media.backends.store import FileSource, ObjectStore, read_secret
from avion_media.cli.client import CallFailed, Client, open_client
from avion_media.cli.output import console, json_option, load_config, print_json
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import act
from avion_media.common import keys
from avion_media.common.errors import Dependency, Rejected, Unavailable
from avion_media.common.formats import MediaFormat, by_filename
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.media import is_owner, owner_metadata
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config
from avion_media.media.scrubber import known_format
from avion_media.nodes.consumers import user_agent_of
from avion_media.operations.operation import Outcome
from avion_media.process.runtime import Runtime, guard_of
from avion_media.servers.api.validation import BadRequest, check_upload_request
from guarded_fetch import InvalidUrl, parse_remote_url
from mediascrub import HEAD_BYTES, sniff
from trio_redis import run_all

_WAIT_S: Final = 900.0  # for one media item to be processed, perhaps in several attempts
_URL_SCHEMES: Final = ("http://", "https://")
_COLUMNS: Final = ("source", "name", "date", "owner")
_OPTIONAL: Final = frozenset({"name", "owner"})
_MAP_COLUMNS: Final = ("source", "media_id", "url")
_SHOWN: Final = 10  # malformed rows


class _NotImported(Exception):
    """Why one row was not imported. The import goes on with the others."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file to import. ``date`` (UTC) becomes that of its id; ``owner`` is empty for none."""

    line: int
    source: str
    name: str
    date: datetime
    owner: str


@dataclass(slots=True)
class _Summary:
    """How the rows ended."""

    imported: int = 0
    already_there: int = 0
    failed: list[tuple[Row, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.imported} imported, {self.already_there} already there, {len(self.failed)} failed"


@click.command("import")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The directory of relative paths in the manifest; by default that of the manifest.",
)
@click.option(
    "--map",
    "map_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The CSV that maps each source to its media item; by default beside the manifest.",
)
@click.option("--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="Files at the same time.")
@json_option
def import_command(manifest: Path, root: Path | None, map_path: Path | None, at_once: int, as_json: bool) -> None:
    """Import media of another system.

    MANIFEST is a CSV with the columns source, name, date and owner; a source is a path or a URL. Repeat the command
    after an interruption: nothing is imported twice.
    """
    config = load_config()
    total = check_manifest(manifest)
    map_path = map_path or manifest.with_suffix(".map.csv")
    columns = (TextColumn("Importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    out = console()
    with (
        open_map(map_path) as redirects,
        Progress(*columns, console=out, disable=as_json or not out.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task("", total=total)
        run = _Import(config, rows_of(manifest), redirects, root or manifest.parent, lambda: progress.advance(bar))

        async def work(runtime: Runtime) -> Outcome:
            await run.run(at_once, runtime.items.store.get())
            return Outcome(text=str(run.summary))

        act("import_media", [str(manifest)], work)
    summary = run.summary
    if as_json:
        failed = [{"line": row.line, "source": row.source, "error": problem} for row, problem in summary.failed]
        counts = {"imported": summary.imported, "already_there": summary.already_there}
        print_json({**counts, "failed": failed, "map": str(map_path)})
    else:
        click.echo(str(summary))
    if summary.failed:
        raise CommandFailed(*(f"{manifest}:{row.line}: {row.source}: {problem}" for row, problem in summary.failed))


class _Import:
    """One run: imports a few rows at once. An outage of the store or the service ends the run."""

    def __init__(
        self, config: Config, rows: Iterator[Row], redirects: RedirectMap, root: Path, ended: Callable[[], object]
    ) -> None:
        self._config = config
        self._rows = rows
        self._redirects = redirects
        self._sources = _Sources(config, root)
        self._ended = ended
        self.summary = _Summary()

    async def run(self, at_once: int, store: ObjectStore) -> None:
        """Import all rows. Raises `CommandFailed` and `Unavailable`; what was imported by then stays."""
        async with open_client(self._config) as client:
            secret = await read_secret(store, keys.IMPORT_SECRET)
            await run_all([lambda: self._work(client, store, secret)] * at_once)

    async def _work(self, client: Client, store: ObjectStore, secret: bytes) -> None:
        for row in self._rows:
            if row.source in self._redirects:
                self.summary.already_there += 1
            else:
                try:
                    await self._import(row, client, store, secret)
                except _NotImported as problem:
                    self.summary.failed.append((row, str(problem)))
            self._ended()

    async def _import(self, row: Row, client: Client, store: ObjectStore, secret: bytes) -> None:
        with ExitStack() as files:
            named = by_filename(row.name)
            file = None if named is not None else await self._sources.open(row.source, files)
            media_id = imported_id(row, named or _format_of(file), secret)
            status = await client.known_status(str(media_id))
            is_new = status is None or status.state == wire.MediaStatus.PENDING_UPLOAD
            if is_new:
                file = file or await self._sources.open(row.source, files)
                await self._upload(row, media_id, file, store)
                await client.complete(str(media_id))
        try:
            ended = await client.wait(str(media_id), _WAIT_S)
        except CallFailed as failed:
            if failed.code != "DEADLINE_EXCEEDED":
                raise
            raise _NotImported(f"it is still being processed after {_WAIT_S:g} s; repeat the import later") from None
        if ended.state != wire.MediaStatus.READY:
            raise _NotImported(ended.reason or wire.MediaStatus.State.Name(ended.state).lower())
        self._redirects.add(row.source, str(media_id), f"{self._config.http.public_url}/media/{media_id}")
        if is_new:
            self.summary.imported += 1
        else:
            self.summary.already_there += 1

    async def _upload(self, row: Row, media_id: MediaId, file: FileSource, store: ObjectStore) -> None:
        """Check a file as RequestMediaUpload does, and write it where a client's PUT would."""
        content_type = media_id.format.content_type
        try:
            check_upload_request(
                row.name,
                content_type,
                file.size_bytes,
                b"",
                row.owner,
                limits=self._config.upload,
                enabled=self._config.enabled_formats(),
            )
        except BadRequest as error:
            raise _NotImported(str(error)) from None
        metadata = owner_metadata(row.owner)
        await store.put(keys.incoming(media_id), file, content_type=content_type, metadata=metadata)


def imported_id(row: Row, fmt: MediaFormat, secret: bytes) -> MediaId:
    """Return the id of a row. It is the same each time. Without the secret, nobody can predict it."""
    digest = hmac.digest(secret, row.source.encode(errors="surrogateescape"), "sha256")
    unix_ms = int(row.date.timestamp() * 1000)
    return new_media_id(fmt, unix_ms, lambda bits: int.from_bytes(digest) >> (8 * len(digest) - bits))


def _format_of(file: FileSource | None) -> MediaFormat:
    """Return the format by the content, for a name without a known extension. Raises `_NotImported`."""
    head = b"" if file is None else os.pread(file.fd, HEAD_BYTES, 0)
    found = sniff(head, size=0 if file is None else file.size_bytes)
    fmt = known_format(found)
    if fmt is None:
        raise _NotImported(f"neither its name nor its content is that of an accepted format ({found.name})")
    return fmt


class _Sources:
    """Opens the sources of rows."""

    def __init__(self, config: Config, root: Path) -> None:
        self._root = root.resolve()
        self._fetcher = Fetcher(
            guard_of(config.remote),
            max_bytes=config.upload.most_bytes,
            timeout_s=config.remote.timeout,
            user_agent=user_agent_of(config),
        )

    async def open(self, source: str, files: ExitStack) -> FileSource:
        """Return the bytes of a source. They exist until ``files`` is closed. Raises `_NotImported`."""
        if source.startswith(_URL_SCHEMES):
            return await self._fetch(source, files)
        path = (self._root / source).resolve()
        if not path.is_relative_to(self._root):
            raise _NotImported(f"it is not below {self._root}")
        try:
            file = files.enter_context(path.open("rb"))
        except OSError as error:
            raise _NotImported(error.strerror or str(error)) from None
        return FileSource(file.fileno(), os.fstat(file.fileno()).st_size)

    async def _fetch(self, url: str, files: ExitStack) -> FileSource:
        fd = files.enter_context(open_spool())
        try:
            fetched = await self._fetcher.fetch(parse_remote_url(url), fd)
        except (InvalidUrl, Rejected) as error:
            raise _NotImported(str(error)) from None
        except Unavailable as error:
            if error.dependency is not Dependency.REMOTE:
                raise
            raise _NotImported(f"its server: {error.detail}") from None
        return FileSource(fd, fetched.size_bytes)


# -- The manifest, and the map from old addresses to new


class _Malformed(ValueError):
    """A row of a manifest that cannot be used."""


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
            raise CommandFailed(f"{path}: another import is writing this file") from None
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

"""``block``, ``unblock``, ``evidence``, ``blocklist``, ``review``: the commands of moderators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from avion_media.backends.store import FileSource
from avion_media.cli.output import json_option, load_config, note_option, print_found, print_lines, read_id
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import act, act_on, on_service, raise_problems
from avion_media.common import keys
from avion_media.items.moderation import Changes, Entry, HashType, parse_list
from avion_media.items.moderation.entries import hash_file
from avion_media.operations.operation import Outcome
from avion_media.process.runtime import Runtime
from avion_media.servers.api.statuses import StatusResolver, UnknownMedium

_SHOWN = 10  # malformed lines


def _block_command(action: str, what: str) -> click.Command:
    @click.command("block", help=what)
    @click.argument("media_id")
    @note_option
    @click.option(
        "--keep-evidence/--discard",
        default=True,
        show_default=True,
        help="Move the files to quarantine, or remove them.",
    )
    @json_option
    def command(media_id: str, note: str, keep_evidence: bool, as_json: bool) -> None:
        any_id, config = read_id(media_id), load_config()

        async def known(runtime: Runtime) -> list[str]:
            resolver = StatusResolver(runtime.replay, runtime.moderation.status, config.upload)
            try:
                await resolver.resolve(any_id)
            except UnknownMedium:
                raise CommandFailed(f"{any_id}: media item not found") from None
            return [str(any_id)]

        outcome = act(action, known, note=note, keep_evidence=keep_evidence)
        raise_problems(outcome)
        copies = outcome.done[str(any_id)]["copies"]
        counted = f", with {copies} {'copy' if copies == 1 else 'copies'}" if copies else ""
        print_lines({"blocked": media_id, "copies": copies}, [f"{media_id}: blocked{counted}"], as_json=as_json)

    return command


def _command(action: str, word: str, what: str) -> click.Command:
    @click.command(action, help=what)
    @click.argument("media_id")
    @note_option
    @json_option
    def command(media_id: str, note: str, as_json: bool) -> None:
        act_on(action, str(read_id(media_id)), note=note)
        print_lines({word: media_id}, [f"{media_id}: {word}"], as_json=as_json)

    return command


block_command = _block_command("block", "Block a media item and its copies: 451 at once, its hashes on the block list.")
unblock_command = _command(
    "unblock", "unblocked", "End a block. The files that were kept as evidence are served again."
)


@click.command("evidence")
@click.argument("media_id")
@click.option(
    "--to",
    "path",
    type=click.Path(exists=False, dir_okay=False, path_type=Path),
    help="The archive; by default evidence-MEDIA_ID.zip in the current folder. An existing file is not overwritten.",
)
@json_option
def evidence_command(media_id: str, path: Path | None, as_json: bool) -> None:
    """Write an archive of what is kept of a held or blocked media item: files, records, audit entries, manifest."""
    path = path or Path(f"evidence-{read_id(media_id)}.zip")
    try:
        act_on("evidence", str(read_id(media_id)), save_to=path)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    print_lines({"media_id": media_id, "file": str(path)}, [f"{media_id}: {path}"], as_json=as_json)


@click.group("blocklist")
def blocklist_command() -> None:
    """Show, import and check the block lists in the bucket."""


@blocklist_command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="The list's name; by default that of the file.")
@json_option
def import_command(file: Path, name: str, as_json: bool) -> None:
    """Write a list of `type,hash,label` lines to the bucket. It replaces the list of the same name."""
    name = name or file.stem
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or name == "own":
        raise UsageError(f"{name}: a list's name has letters, digits, - and _, and is not `own`")
    counts = _read(file)
    counted = ", ".join(f"{count} {kind}" for kind, count in counts.items())

    async def put(runtime: Runtime) -> Outcome:
        with _opened(file) as source:
            await runtime.items.store.get().put(f"{keys.BLOCKLIST_PREFIX}{name}.csv", source, content_type="text/csv")
        await Changes(runtime.items.redis).note()
        return Outcome({name: counts}, text=f"The list has {counted}.")

    act("import_list", [name], put)
    print_lines({"list": name, **counts}, [f"{name}: {counted}"], as_json=as_json)


def _read(file: Path) -> dict[str, int]:
    """Return the number of entries of each type. Raises `CommandFailed` for malformed lines."""
    counts: dict[str, int] = {}
    malformed: list[str] = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for each in parse_list(lines):
            if isinstance(each, Entry):
                counts[each.type] = counts.get(each.type, 0) + 1
            else:
                malformed.append(f"{file}:{each[0]}: {each[1]}")
    if malformed:
        more = [f"and {len(malformed) - _SHOWN} more"] if len(malformed) > _SHOWN else []
        raise CommandFailed(*malformed[:_SHOWN], *more, "nothing was imported")
    return counts


@contextmanager
def _opened(file: Path) -> Iterator[FileSource]:
    with file.open("rb") as opened:
        yield FileSource(opened.fileno(), file.stat().st_size)


@blocklist_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Show the lists, and how many entries each has."""

    async def load(runtime: Runtime) -> dict[str, dict[str, int]]:
        await runtime.moderation.lists.reload()
        return runtime.moderation.lists.counts()

    counts = on_service(load)
    rows = [(name, *(each.get(kind, 0) for kind in HashType)) for name, each in sorted(counts.items())]
    print_found(counts, ("list", *HashType), rows, as_json=as_json)


@blocklist_command.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check_command(file: Path, as_json: bool) -> None:
    """Check whether the bytes of a file are on a list. Exit status 1 if they are not.

    The service also compares the scrubbed original and the likeness, so it can block a file that is on no list here.
    """

    async def check(runtime: Runtime) -> str:
        lists = runtime.moderation.lists
        await lists.reload()
        with _opened(file) as source:
            digests = await hash_file(source.fd, source.size_bytes, (HashType.SHA256, HashType.MD5))
        return str(lists.exact(digests) or "")

    match = on_service(check)
    print_lines({"file": str(file), "match": match}, [f"{file}: {match}"] if match else [], as_json=as_json)
    if not match:
        raise CommandFailed(f"{file}: on no list")


@click.group("review")
def review_command() -> None:
    """List, release or block media that are held because they resemble an entry of a block list."""


@review_command.command("list")
@json_option
def review_list_command(as_json: bool) -> None:
    """Show all that wait for a moderator."""
    waiting = on_service(lambda runtime: runtime.moderation.reviews.waiting())
    rows = [(each.media_id, each.at, each.source.partition("/")[2], each.match) for each in waiting]
    print_found([asdict(each) for each in waiting], ("media item", "since", "of", "why"), rows, as_json=as_json)


review_command.add_command(_command("release", "released", "Release a held media item: it is processed and published."))
review_command.add_command(_block_command("refuse", "Block a held media item."))

"""``block``, ``unblock``, ``blocklist``, ``review``: the commands of moderators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from avion_media.backends.store import FileSource
from avion_media.cli.output import (
    json_option,
    load_config,
    note_option,
    print_found,
    print_lines,
    read_id,
    requested_at_option,
)
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import act, act_on, on_service, raise_problems
from avion_media.common import keys
from avion_media.items.moderation import Changes, Entry, Ground, HashType, Notice, parse_list
from avion_media.items.moderation.entries import hash_file
from avion_media.items.moderation.records import Held
from avion_media.operations.operation import Outcome
from avion_media.process.runtime import Runtime
from avion_media.servers.api.statuses import StatusResolver, UnknownMedium

_SHOWN = 10  # malformed lines


def _block_command(action: str, what: str) -> click.Command:
    @click.command("block", help=what)
    @click.argument("media_id")
    @note_option
    @click.option("--discard", is_flag=True, help="Keep no copy of the files as evidence.")
    @click.option("--ground", type=click.Choice([str(each) for each in Ground if each]), help="Why.")
    @requested_at_option
    @click.option("--automated", is_flag=True, help="No person has decided.")
    @json_option
    def command(
        media_id: str, note: str, discard: bool, ground: str | None, requested_at: str, automated: bool, as_json: bool
    ) -> None:
        any_id, config = read_id(media_id), load_config()

        async def known(runtime: Runtime) -> list[str]:
            resolver = StatusResolver(runtime.replay, runtime.moderation.status, config.upload)
            try:
                await resolver.resolve(any_id)
            except UnknownMedium:
                raise CommandFailed(f"{any_id}: media item not found") from None
            return [str(any_id)]

        decided: dict[str, Any] = {"ground": Ground(ground or ""), "requested_at": requested_at, "automated": automated}
        outcome = act(action, known, note=note, discard_evidence=discard, **decided)
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
    """Show all that wait for a moderator, those with a notice first: with the hours left of 48."""

    async def read(runtime: Runtime) -> tuple[list[Held], dict[str, Notice]]:
        return await runtime.moderation.reviews.waiting(), await runtime.moderation.reviews.notices()

    waiting, notices = on_service(read)
    held = {each.media_id: each for each in waiting}
    found: list[dict[str, Any]] = []
    for media_id in dict.fromkeys((*notices, *held)):
        described: dict[str, Any] = {"media_id": media_id, "hours_left": None, "notice": None}
        if media_id in notices:
            notice = notices[media_id]
            described |= {"hours_left": round(notice.hours_left, 1), "notice": asdict(notice)}
        found.append(described | (asdict(held[media_id]) if media_id in held else {}))
    rows = [
        (
            each["media_id"],
            "" if each["hours_left"] is None else each["hours_left"],
            held[each["media_id"]].at if each["media_id"] in held else notices[each["media_id"]].at,
            held[each["media_id"]].source.partition("/")[2] if each["media_id"] in held else "",
            held[each["media_id"]].match if each["media_id"] in held else notices[each["media_id"]].report,
        )
        for each in found
    ]
    print_found(found, ("media item", "hours left", "since", "of", "why"), rows, as_json=as_json)


review_command.add_command(_command("release", "released", "Release a held media item: it is processed and published."))
review_command.add_command(_block_command("refuse", "Block a held media item."))
review_command.add_command(_command("dismiss", "dismissed", "End a notice without a block. The evidence stays."))

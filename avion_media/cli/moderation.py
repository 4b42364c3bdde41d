"""``block``, ``unblock``, ``blocklist``, ``review``: the commands of moderators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from avion_media.backends.store import FileSource
from avion_media.cli.client import Client, open_client
from avion_media.cli.output import CommandFailed, UsageError, json_option, load_config, print_json, print_table, read_id
from avion_media.cli.resources import open_resources, run_directly, unwrapped
from avion_media.common import keys
from avion_media.common.ids import AnyId
from avion_media.config import Config
from avion_media.items.moderation import Changes, Entry, HashType, Moderation, NotHeld, parse_list
from avion_media.items.moderation.blocking import hash_file
from avion_media.items.moderation.records import Held

T = TypeVar("T")
_SHOWN = 10  # malformed lines
_OPERATOR = "operator"
evidence_option = click.option(
    "--keep-evidence/--discard", default=True, show_default=True, help="Move the files to quarantine, or remove them."
)
note_option = click.option("--note", default="", help="For the record.")


def _call(use: Callable[[Client], Awaitable[T]]) -> T:
    config = load_config()

    async def run() -> T:
        async with open_client(config) as client:
            return await use(client)

    return unwrapped(run)


@click.command("block")
@click.argument("media_id")
@note_option
@evidence_option
@json_option
def block_command(media_id: str, note: str, keep_evidence: bool, as_json: bool) -> None:
    """Block a media item and its copies: 451 at once, its hashes on the block list."""
    read_id(media_id)
    copies = _call(lambda client: client.block(media_id, note, keep_evidence=keep_evidence))
    if as_json:
        print_json({"blocked": media_id, "copies": copies})
    else:
        counted = f", with {copies} {'copy' if copies == 1 else 'copies'}" if copies else ""
        click.echo(f"{media_id}: blocked{counted}")


@click.command("unblock")
@click.argument("media_id")
@json_option
def unblock_command(media_id: str, as_json: bool) -> None:
    """End a block. The files that were kept as evidence are served again."""
    read_id(media_id)
    _call(lambda client: client.unblock(media_id))
    print_json({"unblocked": media_id}) if as_json else click.echo(f"{media_id}: unblocked")


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
    config = load_config()

    async def put() -> None:
        async with open_resources(config) as resources:
            with _opened(file) as source:
                await resources.store.get().put(f"{keys.BLOCKLIST_PREFIX}{name}.csv", source, content_type="text/csv")
            await Changes(resources.redis).note()

    run_directly(put)
    if as_json:
        print_json({"list": name, **counts})
    else:
        click.echo(f"{name}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")


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
    config = load_config()

    async def load() -> dict[str, dict[str, int]]:
        async with open_resources(config) as resources:
            room = Moderation(resources.items, config)
            await room.lists.reload()
            return room.lists.counts()

    counts = run_directly(load)
    if as_json:
        print_json(counts)
    else:
        print_table(
            ("list", *HashType),
            [(name, *(each.get(kind, 0) for kind in HashType)) for name, each in sorted(counts.items())],
        )


@blocklist_command.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check_command(file: Path, as_json: bool) -> None:
    """Check whether the bytes of a file are on a list. Exit status 1 if they are not.

    The service also compares the scrubbed original and the likeness, so it can block a file that is on no list here.
    """
    config = load_config()

    async def check() -> str:
        async with open_resources(config) as resources:
            room = Moderation(resources.items, config)
            await room.lists.reload()
            with _opened(file) as source:
                digests = await hash_file(source.fd, source.size_bytes, (HashType.SHA256, HashType.MD5))
            return str(room.lists.exact(digests) or "")

    match = run_directly(check)
    if as_json:
        print_json({"file": str(file), "match": match})
    elif match:
        click.echo(f"{file}: {match}")
    if not match:
        raise CommandFailed(f"{file}: on no list")


@click.group("review")
def review_command() -> None:
    """List, release or block media that are held because they resemble an entry of a block list."""


@review_command.command("list")
@json_option
def review_list_command(as_json: bool) -> None:
    """Show all that wait for a moderator."""
    config = load_config()

    async def load() -> list[Held]:
        async with open_resources(config) as resources:
            return await Moderation(resources.items, config).reviews.waiting()

    waiting = run_directly(load)
    if as_json:
        print_json([asdict(each) for each in waiting])
    else:
        print_table(("media item", "since", "why"), [(each.media_id, each.at, each.match) for each in waiting])


@review_command.command("release")
@click.argument("media_id")
@json_option
def release_command(media_id: str, as_json: bool) -> None:
    """Release a held media item: it is processed and published."""
    any_id, config = read_id(media_id), load_config()

    async def release() -> None:
        async with open_resources(config) as resources:
            await Moderation(resources.items, config).reviews.release(any_id, _OPERATOR)

    _decided(config, release, any_id)
    print_json({"released": media_id}) if as_json else click.echo(f"{media_id}: released")


@review_command.command("block")
@click.argument("media_id")
@note_option
@evidence_option
@json_option
def review_block_command(media_id: str, note: str, keep_evidence: bool, as_json: bool) -> None:
    """Block a held media item."""
    any_id, config = read_id(media_id), load_config()

    async def require_held() -> None:
        async with open_resources(config) as resources:
            await Moderation(resources.items, config).reviews.require(any_id)

    _decided(config, require_held, any_id)
    _call(lambda client: client.block(media_id, note, keep_evidence=keep_evidence))
    print_json({"blocked": media_id}) if as_json else click.echo(f"{media_id}: blocked")


def _decided(config: Config, decide: Callable[[], Awaitable[None]], any_id: AnyId) -> None:
    try:
        run_directly(decide)
    except NotHeld:
        raise CommandFailed(f"{any_id}: it is not held") from None

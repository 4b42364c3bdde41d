"""``upload``, ``cache``, ``status``: single media, through the running service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from avion_media.cli.client import Client, open_client
from avion_media.cli.output import (
    console,
    json_option,
    load_config,
    owner_option,
    plain_text,
    print_json,
    read_id,
    read_url,
)
from avion_media.cli.problems import CommandFailed, sanitize
from avion_media.cli.resources import run_quietly
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config

T = TypeVar("T")


def _with_client(config: Config, use: Callable[[Client], Awaitable[T]]) -> T:

    async def run() -> T:
        async with open_client(config) as client:
            return await use(client)

    return run_quietly(run)


def origin_url(config: Config) -> str:
    """Return the address of the origin, as seen from this machine."""
    return config.http.public_url or f"{config.http.scheme}://{config.http.bind.reachable}"


def describe(status: wire.MediaStatus, base_url: str) -> dict[str, Any]:
    """Return a status for people and programs: states by name, origin paths as URLs, without empty fields."""
    described: dict[str, Any] = {
        "media_id": status.media_id,
        "state": wire.MediaStatus.State.Name(status.state),
        "reason": status.reason,
        "retryable": status.retryable,
        "content_type": status.content_type,
        "size": status.size,
        "width": status.width,
        "height": status.height,
        "duration": status.duration.ToMilliseconds() / 1000,
        "animated": status.animated,
        "blurhash": status.blurhash,
        "has_credentials": status.has_credentials,
        "digital_source_type": status.digital_source_type,
        "claim_generator": status.claim_generator,
        "waveform": status.waveform.hex(),
    }
    if status.state == wire.MediaStatus.READY:
        described["url"] = base_url + status.path
        described["thumbnails"] = {name: base_url + path for name, path in sorted(status.thumbnails.items())}
        described["credentials"] = status.credentials_path and base_url + status.credentials_path
    return {name: value for name, value in described.items() if value not in ("", 0, False, {})}


def print_status(described: dict[str, Any], title: str = "") -> None:
    """Print one media item as lines."""
    out = console()
    if title:
        out.print(plain_text(title), style="bold")
    for name, value in described.items():
        for key, each in value.items() if isinstance(value, dict) else ((name, value),):
            out.print(plain_text(f"  {key:<13} {each}"))


@click.command("upload")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@owner_option("The owner of the media.")
@click.option("--resume", is_flag=True, help="Continue interrupted uploads of these files.")
@json_option
def upload_command(files: tuple[Path, ...], owner: str, resume: bool, as_json: bool) -> None:
    """Upload files as a client does: request, PUT with a progress bar, complete, wait, print the URLs.

    Large files are sent in parts, several at once. --resume continues an interrupted upload.
    """
    config = load_config()
    upload = partial(upload_all, files=files, show=not as_json, owner=owner, resume=resume)
    ended, problems = _with_client(config, upload)
    base_url = origin_url(config)
    if as_json:
        failed = [{"file": str(file), "error": problem} for file, problem in problems]
        print_json([{"file": str(file), **describe(status, base_url)} for file, status in ended] + failed)
    else:
        for file, status in ended:
            print_status(describe(status, base_url), str(file))
    bad = [f"{file}: {status.reason}" for file, status in ended if status.state != wire.MediaStatus.READY]
    if problems or bad:
        raise CommandFailed(*(problem for _, problem in problems), *bad)


async def upload_all(
    client: Client, files: tuple[Path, ...], *, show: bool, owner: str = "", resume: bool = False
) -> tuple[list[tuple[Path, wire.MediaStatus]], list[tuple[Path, str]]]:
    """Upload files one after the other. A problem with one does not stop the rest.

    Return the files with their statuses, and the files that could not be uploaded with the reason.
    """
    ended: list[tuple[Path, wire.MediaStatus]] = []
    problems: list[tuple[Path, str]] = []
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console(), disable=not show, transient=True) as progress:
        for file in files:
            bar = progress.add_task(sanitize(file.name), total=file.stat().st_size)
            try:
                sent = partial(progress.advance, bar)
                ended.append((file, await client.upload(file, sent, owner=owner, resume=resume)))
            except CommandFailed as failure:
                problems.append((file, f"{file}: {failure.lines[0].removeprefix(f'{file}: ')}"))
    return ended, problems


@click.command("status")
@click.argument("media_id")
@json_option
def status_command(media_id: str, as_json: bool) -> None:
    """Show the status of one media item."""
    read_id(media_id)
    config = load_config()
    status = _with_client(config, lambda client: client.status(media_id))
    described = describe(status, origin_url(config))
    print_json(described) if as_json else print_status(described)


@click.command("cache")
@click.argument("url")
@json_option
def cache_command(url: str, as_json: bool) -> None:
    """Request a remote media item, wait until the service has fetched it, print its URLs."""
    read_url(url)
    config = load_config()

    async def fetch(client: Client) -> tuple[wire.CacheRemoteMediaResponse, wire.MediaStatus]:
        answer = await client.cache(url)
        return answer, await client.wait(answer.media_id)

    answer, status = _with_client(config, fetch)
    described = describe(status, origin_url(config))
    if as_json:
        print_json(described | {"task_id": answer.task_id})
    else:
        print_status(described, url)
    if status.state != wire.MediaStatus.READY:
        raise CommandFailed(f"{url}: {status.reason}")

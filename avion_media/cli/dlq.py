"""``avion-media dlq``: lists, shows, replays and drops dead letters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from avion_media.backends.queue import DeadLetter, DeadLetterFilter
from avion_media.backends.redis import Redis
from avion_media.cli.output import json_option, print_found, print_lines
from avion_media.cli.problems import CommandFailed, UsageError, sanitize
from avion_media.cli.queues import SHORT_NAMES, queue_name, read_seconds
from avion_media.cli.resources import act, on_service, raise_problems
from avion_media.common.tasks import QUEUES
from avion_media.operations.dead_letters import Selection, Walk, bulk_targets, find_all, show
from avion_media.operations.inspection import format_time
from avion_media.process.runtime import Runtime


def _with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a filter to a command, which gets the selection."""

    @wraps(command)
    def selected(
        queue: str | None, error: str, older_than_s: float | None, newer_than_s: float | None, **more: Any
    ) -> None:
        now = time.time()
        conditions = DeadLetterFilter(
            error=error,
            failed_after=None if newer_than_s is None else now - newer_than_s,
            failed_before=None if older_than_s is None else now - older_than_s,
        )
        queues = tuple(QUEUES) if queue is None else (queue_name(queue),)
        command(wanted=Selection(queues, conditions), **more)

    for option in (
        click.option(
            "--newer-than",
            "newer_than_s",
            metavar="TIME",
            callback=read_seconds,
            help="Failed within this time, such as 1h.",
        ),
        click.option(
            "--older-than",
            "older_than_s",
            metavar="TIME",
            callback=read_seconds,
            help="Failed before this time, such as 7d.",
        ),
        click.option("--error", default="", help="Text in the error or reason; upper and lower case are the same."),
        click.option("--queue", help=f"Only this one: {', '.join(SHORT_NAMES)}."),
    ):
        selected = option(selected)
    return selected


def _with_selection(command: Callable[..., None]) -> Callable[..., None]:
    """Add entry ids, a filter and ``--all`` to a command, which needs exactly one of them."""

    @wraps(command)
    def checked(entry_ids: tuple[str, ...], everything: bool, wanted: Selection, **more: Any) -> None:
        if entry_ids and (everything or not wanted.conditions.is_open):
            raise UsageError("name dead letters, or say which by --all or a filter; not both")
        if not entry_ids and wanted == Selection() and not everything:
            raise UsageError("name dead letters (see: avion-media dlq list), or say which by --all or a filter")
        command(entry_ids=entry_ids, wanted=wanted, **more)

    every = click.option("--all", "everything", is_flag=True, help="All of them.")
    return click.argument("entry_ids", nargs=-1)(_with_filter(every(checked)))


@click.group("dlq")
def dlq_command() -> None:
    """List, show, replay and drop dead letters: tasks that failed for good."""


@dlq_command.command("list")
@_with_filter
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
def list_command(wanted: Selection, limit: int, as_json: bool) -> None:
    """List the dead letters, queue by queue, oldest first."""
    found = on_service(lambda runtime: _first(runtime.items.redis, wanted, limit))
    print_found(
        [_to_dict(each) for each in found],
        ["entry", "queue", "subject", "attempts", "replays", "failed at", "error"],
        [
            (
                each.entry_id,
                each.queue,
                each.subject,
                each.attempts,
                each.replays,
                format_time(each.failed_at),
                each.error[:80],
            )
            for each in found
        ],
        as_json=as_json,
    )


@dlq_command.command("show")
@click.argument("entry_id")
@json_option
def show_command(entry_id: str, as_json: bool) -> None:
    """Show all fields of one dead letter."""
    found = on_service(lambda runtime: _find(runtime.items.redis, entry_id))
    if not found:
        raise CommandFailed(f"{entry_id}: no such dead letter")
    shown = [_to_dict(each) for each in found]
    lines = (sanitize(f"  {name:<16} {value}") for each in shown for name, value in each.items())
    print_lines(shown, lines, as_json=as_json)


@dlq_command.command("replay")
@_with_selection
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Let the service replay them, at this rate per second (see: avion-media jobs). For --all or a filter.",
)
@json_option
def replay_command(entry_ids: tuple[str, ...], wanted: Selection, rate: float | None, as_json: bool) -> None:
    """Queue dead letters again, with the full number of attempts. They keep their history."""
    if rate is None:
        _act("replayed", "replay", entry_ids, wanted, as_json)
    elif entry_ids:
        raise UsageError("--rate goes with --all or a filter")
    else:
        _begin_jobs(wanted, rate, as_json)


@dlq_command.command("drop")
@_with_selection
@json_option
def drop_command(entry_ids: tuple[str, ...], wanted: Selection, as_json: bool) -> None:
    """Remove dead letters for good."""
    _act("dropped", "drop", entry_ids, wanted, as_json)


def _begin_jobs(wanted: Selection, rate: float, as_json: bool) -> None:
    outcome = act("replay_all", lambda runtime: bulk_targets(runtime.items.redis, wanted), rate=rate)
    begun = list(outcome.done.values())
    lines = [f"{each['job']}: {each['total']} dead letters, {rate:g} a second" for each in begun]
    if not begun and not outcome.problems:
        lines = ["no dead letters"]
    totals = {target.partition("?")[0]: facts["total"] for target, facts in outcome.done.items()}
    print_lines(totals, lines, as_json=as_json)
    raise_problems(outcome)


def _act(word: str, action: str, entry_ids: Sequence[str], wanted: Selection, as_json: bool) -> None:
    """Carry out ``action`` on each selected dead letter, then report how many were changed.

    Does not count a dead letter that another operator changed first. Raises `CommandFailed` for entry ids that are not
    found, or found in several queues, after it has changed the others.
    """
    found: dict[str, DeadLetter] = {}
    problems: list[str] = []

    async def find(runtime: Runtime) -> list[str]:
        redis = runtime.items.redis
        if not entry_ids:
            found.update({each.key: each for each in await find_all(redis, wanted)})
        for entry_id in entry_ids:
            named = await _find(redis, entry_id, wanted.queues)
            if len(named) == 1:
                found[named[0].key] = named[0]
            elif named:
                names = ", ".join(each.queue for each in named)
                problems.append(f"{entry_id}: is in several queues ({names}); choose one by --queue")
            else:
                problems.append(f"{entry_id}: no such dead letter")
        return list(found)

    outcome = act(action, find)
    document = {word: [_to_dict(found[key]) for key in outcome.done]}
    print_lines(document, [f"{len(outcome.done)} {word}"], as_json=as_json)
    if problems or (outcome.problems and entry_ids):
        raise CommandFailed(*problems, *outcome.sentences())


async def _first(redis: Redis, wanted: Selection, limit: int) -> list[DeadLetter]:
    """Return the first dead letters that match, queue by queue."""
    found: list[DeadLetter] = []
    for queue in wanted.queues:
        walk = Walk(redis, Selection([queue], wanted.conditions), newest_first=False)
        found += await walk.matching(limit - len(found), max_examined=math.inf)
    return found


async def _find(redis: Redis, entry_id: str, queues: Sequence[str] = tuple(QUEUES)) -> list[DeadLetter]:
    """Return the dead letters with this entry id: at most one of each queue, because ids are unique per queue only."""
    found = [await show(redis, f"{queue}/{entry_id}") for queue in queues]
    return [each for each in found if each is not None]


def _to_dict(found: DeadLetter) -> dict[str, Any]:
    """Return the fields that `--json` prints, and that `show` prints line by line."""
    ours = {
        "entry_id": found.entry_id,
        "queue": found.queue,
        "task_id": found.task.task_id,
        "subject": found.subject,
        "error": found.error,
        "attempts": found.attempts,
        "deaths": found.deaths,
        "crashed_workers": found.crashed_workers,
        "replays": found.replays,
        "first_seen": format_time(found.first_seen),
        "failed_at": format_time(found.failed_at),
        "traceparent": found.task.traceparent,
    }
    return ours | {name: value for name, value in found.task.fields.items() if name not in ours}

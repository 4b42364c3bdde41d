"""``avion-media dlq``: lists, shows, replays and drops dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import click

from avion_media.backends.queue import DeadLetter, DeadLetterFilter, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.cli.operator import act, raise_problems
from avion_media.cli.output import (
    CommandFailed,
    UsageError,
    console,
    json_option,
    plain_text,
    print_json,
    print_table,
)
from avion_media.cli.queues import SHORT_NAMES, queue_name
from avion_media.cli.resources import on_service
from avion_media.common.settings import parse_duration
from avion_media.common.tasks import QUEUES
from avion_media.operations.inspection import format_time
from avion_media.operations.operation import OperatedService
from avion_media.operations.queues import bulk_target

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that a command works on: some queues and a filter, or entry ids."""

    queues: tuple[str, ...] = tuple(QUEUES)
    wanted: DeadLetterFilter = field(default_factory=DeadLetterFilter)
    entry_ids: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it selects every dead letter of every queue."""
        return self == Selection()


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else float(parse_duration(value))  # type: ignore[arg-type]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--newer-than",
            "newer_than_s",
            metavar="TIME",
            callback=_seconds,
            help="Failed within this time, such as 1h.",
        ),
        click.option(
            "--older-than",
            "older_than_s",
            metavar="TIME",
            callback=_seconds,
            help="Failed before this time, such as 7d.",
        ),
        click.option("--error", default="", help="Text in the error or reason; upper and lower case are the same."),
        click.option("--queue", help=f"Only this one: {', '.join(SHORT_NAMES)}."),
    ):
        command = option(command)
    return command


def _selection_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--all", "everything", is_flag=True, help="All of them.")(command)
    return click.argument("entry_ids", nargs=-1)(_filter_options(command))


@click.group("dlq")
def dlq_command() -> None:
    """List, show, replay and drop dead letters: tasks that failed for good."""


@dlq_command.command("list")
@_filter_options
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
def list_command(limit: int, as_json: bool, **conditions: Any) -> None:
    """List the dead letters, queue by queue, oldest first."""
    chosen = _selection_of(**conditions)
    found = on_service(lambda service: _collect(service.items.redis, chosen, limit))
    if as_json:
        print_json([_to_dict(each) for each in found])
        return
    print_table(
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
    )


@dlq_command.command("show")
@click.argument("entry_id")
@json_option
def show_command(entry_id: str, as_json: bool) -> None:
    """Show all fields of one dead letter."""
    found = on_service(lambda service: _find(service.items.redis, entry_id))
    if not found:
        raise CommandFailed(f"{entry_id}: no such dead letter")
    if as_json:
        print_json([_to_dict(each) for each in found])
        return
    for each in found:
        for name, value in _to_dict(each).items():
            console().print(plain_text(f"  {name:<16} {value}"))


@dlq_command.command("replay")
@_selection_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Let the service replay them, at this rate per second (see: avion-media jobs). For --all or a filter.",
)
@json_option
def replay_command(
    entry_ids: tuple[str, ...], everything: bool, rate: float | None, as_json: bool, **conditions: Any
) -> None:
    """Queue dead letters again, with the full number of attempts. They keep their history."""
    if rate is not None:
        chosen = _selection(entry_ids, everything, conditions)
        if chosen.entry_ids:
            raise UsageError("--rate goes with --all or a filter")
        _begin_jobs(chosen, rate, as_json)
        return
    _act("replayed", "replay", _selection(entry_ids, everything, conditions), as_json)


@dlq_command.command("drop")
@_selection_options
@json_option
def drop_command(entry_ids: tuple[str, ...], everything: bool, as_json: bool, **conditions: Any) -> None:
    """Remove dead letters for good."""
    _act("dropped", "drop", _selection(entry_ids, everything, conditions), as_json)


def _selection(entry_ids: tuple[str, ...], everything: bool, conditions: dict[str, Any]) -> Selection:
    chosen = _selection_of(**conditions)
    if entry_ids:
        if everything or chosen.wanted != DeadLetterFilter():
            raise UsageError("name dead letters, or say which by --all or a filter; not both")
        return replace(chosen, entry_ids=entry_ids)
    if chosen.is_open and not everything:
        raise UsageError("name dead letters (see: avion-media dlq list), or say which by --all or a filter")
    return chosen


def _begin_jobs(chosen: Selection, rate: float, as_json: bool) -> None:
    async def with_dead_letters(service: OperatedService) -> list[str]:
        found = [each for each in chosen.queues if await TaskQueue(service.items.redis, each).dead_letters.list(1)]
        return [bulk_target(each, chosen.wanted) for each in found]

    outcome = act("replay_all", with_dead_letters, rate=rate)
    begun = list(outcome.done.values())
    if as_json:
        print_json({target.partition("?")[0]: facts["total"] for target, facts in outcome.done.items()})
    else:
        for each in begun:
            console().print(f"{each['job']}: {each['total']} dead letters, {rate:g} a second")
        if not begun and not outcome.problems:
            console().print("no dead letters")
    raise_problems(outcome)


def _act(word: str, action: str, chosen: Selection, as_json: bool) -> None:
    """Carry out ``action`` on each chosen dead letter, then report how many were changed.

    Does not count a dead letter that another operator changed first. Raises `CommandFailed` for entry ids that are not
    found, or found in several queues, after it has changed the others.
    """
    found: dict[str, DeadLetter] = {}
    problems: list[str] = []

    async def find(service: OperatedService) -> list[str]:
        if not chosen.entry_ids:
            found.update({each.key: each for each in await _collect(service.items.redis, chosen, None)})
        for entry_id in chosen.entry_ids:
            named = await _find(service.items.redis, entry_id, chosen.queues)
            if len(named) == 1:
                found[named[0].key] = named[0]
            elif named:
                names = ", ".join(each.queue for each in named)
                problems.append(f"{entry_id}: is in several queues ({names}); choose one by --queue")
            else:
                problems.append(f"{entry_id}: no such dead letter")
        return list(found)

    outcome = act(action, find)
    if as_json:
        print_json({word: [_to_dict(found[key]) for key in outcome.done]})
    else:
        console().print(f"{len(outcome.done)} {word}")
    if problems or (outcome.problems and chosen.entry_ids):
        raise CommandFailed(*problems, *outcome.sentences())


def _selection_of(queue: str | None, error: str, older_than_s: float | None, newer_than_s: float | None) -> Selection:
    now = time.time()
    wanted = DeadLetterFilter(
        error=error,
        failed_after=None if newer_than_s is None else now - newer_than_s,
        failed_before=None if older_than_s is None else now - older_than_s,
    )
    return Selection(tuple(QUEUES) if queue is None else (queue_name(queue),), wanted)


async def _collect(redis: Redis, chosen: Selection, limit: int | None) -> list[DeadLetter]:
    """Return the chosen dead letters, at most ``limit``.

    Skips dead letters that are added meanwhile, because a replayed task can fail again at once.
    """
    seconds, microseconds = await redis.execute("TIME")
    now = int(seconds) + int(microseconds) / 1_000_000
    found: list[DeadLetter] = []
    for queue in chosen.queues:
        after = ""
        while page := await TaskQueue(redis, queue).dead_letters.list(_PAGE, after):
            after = page[-1].entry_id
            found += [each for each in page if each.failed_at <= now and chosen.wanted.lets_through(each)]
            if limit is not None and len(found) >= limit:
                return found[:limit]
    return found


async def _find(redis: Redis, entry_id: str, queues: Iterable[str] = QUEUES) -> list[DeadLetter]:
    """Return the dead letters with this entry id: at most one of each queue, because ids are unique per queue only."""
    found = [await TaskQueue(redis, queue).dead_letters.show(entry_id) for queue in queues]
    return [each for each in found if each is not None]


def _to_dict(found: DeadLetter) -> dict[str, Any]:
    """Return the fields that `--json` prints, and that `show` prints line by line."""
    return {
        "entry_id": found.entry_id,
        "queue": found.queue,
        "task_id": found.task.task_id,
        **found.task.fields,
        "error": found.error,
        "attempts": found.attempts,
        "deaths": found.deaths,
        "crashed_workers": found.crashed_workers,
        "replays": found.replays,
        "first_seen": format_time(found.first_seen),
        "failed_at": format_time(found.failed_at),
        "traceparent": found.task.traceparent,
    }

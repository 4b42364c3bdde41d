"""``avion-media dlq``: the tasks given up. Look at them, put them back, drop them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from avion_media.cli.operator import log_action, operator_name
from avion_media.cli.output import (
    CommandFailed,
    UsageError,
    console,
    json_option,
    load_config,
    plain_text,
    print_json,
    print_table,
)
from avion_media.cli.queues import queue_name
from avion_media.cli.resources import run_directly
from avion_media.config import parse_duration
from avion_media.domain.tasks import QUEUES
from avion_media.inspection import format_time
from avion_media.queue import DeadLetter, DeadLetters, TaskQueue
from avion_media.redis import Redis, open_redis

T = TypeVar("T")
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and whose it is."""

    queue: str
    letter: DeadLetter

    def to_dict(self) -> dict[str, Any]:
        """For programs, and line by line for people."""
        letter = self.letter
        return {
            "entry_id": letter.entry_id,
            "queue": self.queue,
            "task_id": letter.task_id,
            **letter.fields,
            "error": letter.error,
            "attempts": letter.attempts,
            "replays": letter.replays,
            "first_seen": format_time(letter.first_seen),
            "failed_at": format_time(letter.failed_at),
            "traceparent": letter.traceparent,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant: all conditions that are given must hold. Ages are in seconds since they failed."""

    queues: tuple[str, ...] = QUEUES
    error: str = ""
    older_than_s: float | None = None
    newer_than_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return self == Filter()

    def lets_through(self, letter: DeadLetter, now: float) -> bool:
        """Whether this one is meant; its queue aside."""
        age_s = now - letter.failed_at
        return (
            self.error.lower() in letter.error.lower()
            and (self.older_than_s is None or age_s >= self.older_than_s)
            and (self.newer_than_s is None or age_s < self.newer_than_s)
        )


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
        click.option("--error", default="", help="Part of the error or reason, in any case."),
        click.option("--queue", help="Only this one: processing, cache, delete or purge."),
    ):
        command = option(command)
    return command


def _selection_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--all", "everything", is_flag=True, help="All of them.")(command)
    return click.argument("entry_ids", nargs=-1)(_filter_options(command))


@click.group("dlq")
def dlq_command() -> None:
    """The tasks given up: look at them, put them back, drop them."""


@dlq_command.command("list")
@_filter_options
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
def list_command(limit: int, as_json: bool, **conditions: Any) -> None:
    """The dead letters, queue by queue, oldest first."""
    wanted = _filter_of(**conditions)
    found = _through_letters(lambda redis: _collect(redis, wanted, limit))
    if as_json:
        print_json([each.to_dict() for each in found])
        return
    print_table(
        ["entry", "queue", "subject", "attempts", "replays", "failed at", "error"],
        [
            (
                each.letter.entry_id,
                each.queue,
                each.letter.fields.get("media_id") or each.letter.fields.get("remote_url", ""),
                each.letter.attempts,
                each.letter.replays,
                format_time(each.letter.failed_at),
                each.letter.error[:80],
            )
            for each in found
        ],
    )


@dlq_command.command("show")
@click.argument("entry_id")
@json_option
def show_command(entry_id: str, as_json: bool) -> None:
    """All of one dead letter."""
    found = _through_letters(lambda redis: _find(redis, entry_id))
    if not found:
        raise CommandFailed(f"{entry_id}: no such dead letter")
    if as_json:
        print_json([each.to_dict() for each in found])
        return
    for each in found:
        for name, value in each.to_dict().items():
            console().print(plain_text(f"  {name:<13} {value}"))


@dlq_command.command("replay")
@_selection_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Leave it to the service, which replays so many a second. For --all or --error, of one queue or all.",
)
@json_option
def replay_command(
    entry_ids: tuple[str, ...], everything: bool, rate: float | None, as_json: bool, **conditions: Any
) -> None:
    """Queue dead letters again, with all attempts open. Their history stays with them."""
    if rate is not None:
        chosen = _selection(entry_ids, everything, conditions)
        if not isinstance(chosen, Filter) or chosen.older_than_s is not None or chosen.newer_than_s is not None:
            raise UsageError("--rate goes with --all, --error and --queue only")
        _replay_later(chosen, rate, as_json)
        return
    _act("replayed", DeadLetters.replay, _selection(entry_ids, everything, conditions), as_json)


@dlq_command.command("drop")
@_selection_options
@json_option
def drop_command(entry_ids: tuple[str, ...], everything: bool, as_json: bool, **conditions: Any) -> None:
    """Remove dead letters for good."""
    _act("dropped", DeadLetters.drop, _selection(entry_ids, everything, conditions), as_json)


def _selection(entry_ids: tuple[str, ...], everything: bool, conditions: dict[str, Any]) -> tuple[str, ...] | Filter:
    wanted = _filter_of(**conditions)
    if entry_ids:
        if everything or not wanted.is_open:
            raise UsageError("name dead letters, or say which by --all or a filter; not both")
        return entry_ids
    if wanted.is_open and not everything:
        raise UsageError("name dead letters (see: avion-media dlq list), or say which by --all or a filter")
    return wanted


def _replay_later(wanted: Filter, rate: float, as_json: bool) -> None:
    async def begin(redis: Redis) -> dict[str, int | None]:
        return {
            queue: await TaskQueue(redis, queue).replay_all(error=wanted.error, rate=rate, by=operator_name())
            for queue in wanted.queues
        }

    begun = _through_letters(begin)
    for queue, count in begun.items():
        if count:
            log_action("bulk_replay_begun", queue=queue, rate=rate, error=wanted.error, dead_letters=count)
            if not as_json:
                console().print(f"{queue}: {count} dead letters, {rate:g} a second")
    if as_json:
        print_json({queue: count for queue, count in begun.items() if count is not None})
    if busy := [queue for queue, count in begun.items() if count is None]:
        raise CommandFailed(*(f"{queue}: an earlier bulk replay is not done yet" for queue in busy))


def _act(
    word: str, step: Callable[[DeadLetters, str], Awaitable[bool]], chosen: tuple[str, ...] | Filter, as_json: bool
) -> None:
    """Take ``step`` with each of the chosen. Those that somebody else was faster with are not counted."""
    done: list[Letter] = []

    async def act(redis: Redis) -> list[str]:
        async def take_step(found: Letter) -> bool:
            if await step(TaskQueue(redis, found.queue).dead_letters, found.letter.entry_id):
                done.append(found)
            return True

        if isinstance(chosen, Filter):
            await _each(redis, chosen, take_step)
            return []
        missing = []
        for entry_id in chosen:
            letters = await _find(redis, entry_id)
            missing += [] if letters else [entry_id]
            for each in letters:
                await take_step(each)
        return missing

    missing = _through_letters(act)
    for each in done:
        log_action(f"dead_letter_{word}", queue=each.queue, entry_id=each.letter.entry_id, task_id=each.letter.task_id)
    if as_json:
        print_json({word: [each.to_dict() for each in done]})
    else:
        console().print(f"{len(done)} {word}")
    if missing:
        raise CommandFailed(*(f"{entry_id}: no such dead letter" for entry_id in missing))


def _filter_of(queue: str | None, error: str, older_than_s: float | None, newer_than_s: float | None) -> Filter:
    if queue is None:
        return Filter(QUEUES, error, older_than_s, newer_than_s)
    return Filter((queue_name(queue),), error, older_than_s, newer_than_s)


async def _each(redis: Redis, wanted: Filter, handle: Callable[[Letter], Awaitable[bool]]) -> None:
    """Await ``handle`` for each that is meant, until it wants no more.

    Those that come in meanwhile are left out: what is replayed may be back at once.
    """
    seconds, microseconds = await redis.execute("TIME")
    now = int(seconds) + int(microseconds) / 1_000_000
    for queue in wanted.queues:
        after = ""
        while letters := await TaskQueue(redis, queue).dead_letters.list(_PAGE, after):
            after = letters[-1].entry_id
            for letter in letters:
                meant = letter.failed_at <= now and wanted.lets_through(letter, now)
                if meant and not await handle(Letter(queue, letter)):
                    return


async def _collect(redis: Redis, wanted: Filter, limit: int) -> list[Letter]:
    found: list[Letter] = []

    async def collect(letter: Letter) -> bool:
        found.append(letter)
        return len(found) < limit

    await _each(redis, wanted, collect)
    return found


async def _find(redis: Redis, entry_id: str) -> list[Letter]:
    """Entry ids are unique in their queue only."""
    found = [(queue, await TaskQueue(redis, queue).dead_letters.show(entry_id)) for queue in QUEUES]
    return [Letter(queue, letter) for queue, letter in found if letter is not None]


def _through_letters(use: Callable[[Redis], Awaitable[T]]) -> T:
    config = load_config()

    async def run() -> T:
        async with open_redis(config.redis.url, timeout_s=config.redis.timeout) as redis:
            return await use(redis)

    return run_directly(run)

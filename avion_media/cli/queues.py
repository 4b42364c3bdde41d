"""``queues`` and ``jobs``: what waits, and the bulk jobs that the service carries out."""

from __future__ import annotations

from dataclasses import asdict

import click

from avion_media.backends.queue import QueueStats, all_jobs
from avion_media.backends.queue.task_scan import FoundTask, find_tasks
from avion_media.cli.output import json_option, note_option, print_found, print_lines
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import act, act_on, on_service, raise_problems
from avion_media.common.settings import seconds_of
from avion_media.common.tasks import DROP_DELETED, QUEUES
from avion_media.items.deletion.notices import notice_backlog
from avion_media.operations.inspection import format_time
from avion_media.operations.queues import may_be_cancelled
from avion_media.process.runtime import Runtime

SHORT_NAMES = {queue.removeprefix("media_").removesuffix("_queue"): queue for queue in QUEUES}
_COLUMNS = ("task_id", "media_id", "tenant", "location", "first_seen", "attempts", "error")  # of `queues list`


def queue_name(text: str) -> str:
    """Return the queue that an operator means. Raises `UsageError` if there is none."""
    name = SHORT_NAMES.get(text, text)
    if name not in QUEUES:
        raise UsageError(f"no such queue: {text} (there are: {', '.join(SHORT_NAMES)})")
    return name


def _remarks(stats: QueueStats) -> str:
    """Return who paused a queue, why, and until when, and how many tasks wait of the tenant that waits longest."""
    remarks = []
    if stats.paused_since:
        note = f": {stats.paused_note}" if stats.paused_note else ""
        until = f", until {format_time(stats.paused_until)}" if stats.paused_until else ""
        remarks.append(f"paused by {stats.paused_by} since {format_time(stats.paused_since)}{note}{until}")
    if stats.of_oldest_tenant:
        remarks.append(f"{stats.of_oldest_tenant} of {stats.oldest_tenant}")
    return "; ".join(remarks)


def read_seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of an option such as ``30m``; None if it is missing."""
    try:
        return None if value is None else seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group("queues", invoke_without_command=True)
@json_option
@click.pass_context
def queues_command(context: click.Context, as_json: bool) -> None:
    """Show the waiting tasks of each queue, those in progress, and the age of the oldest. Pause, resume, cancel."""
    if context.invoked_subcommand is not None:
        return
    stats = on_service(_stats)
    print_found(
        {name: asdict(each) for name, each in stats.items()},
        ["queue", "waiting", "in progress", "tenants", "oldest", "delayed", "dead letters", "consumers", ""],
        [
            (
                name,
                each.lag,
                each.pending,
                each.tenants,
                f"{each.oldest_age_s:.0f}s",
                each.delayed,
                each.dead_letters,
                each.consumers,
                _remarks(each),
            )
            for name, each in stats.items()
        ],
        as_json=as_json,
    )
    if not as_json and any(each.paused_since for each in stats.values()):
        click.echo("If Redis loses its data, a pause is lost, too.")


@queues_command.command("pause")
@click.argument("queue")
@note_option
@click.option(
    "--for", "for_s", metavar="TIME", callback=read_seconds, help="Resume the queue after this time, such as 30m."
)
@json_option
def pause_command(queue: str, note: str, for_s: float | None, as_json: bool) -> None:
    """Give no more tasks of QUEUE to workers. Tasks in progress continue; new ones wait.

    If Redis loses its data, the pause is lost, too.
    """
    name = queue_name(queue)
    act_on("pause", name, note=note, for_s=for_s or 0.0)
    print_lines({"queue": name, "paused": True}, [f"{name}: paused"], as_json=as_json)


@queues_command.command("resume")
@click.argument("queue")
@json_option
def resume_command(queue: str, as_json: bool) -> None:
    """Give tasks of QUEUE to workers again."""
    name = queue_name(queue)
    was_paused = act_on("resume", name)["was_paused"]
    document = {"queue": name, "paused": False, "was_paused": was_paused}
    print_lines(document, [f"{name}: {'resumed' if was_paused else 'was not paused'}"], as_json=as_json)


@queues_command.command("list")
@click.argument("queue")
@click.option("--tenant", default="", help="Only tasks of this owner or host.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
def list_command(queue: str, tenant: str, limit: int, as_json: bool) -> None:
    """List tasks of QUEUE that have not ended, in any order. Reads all of them if fewer match."""
    name = queue_name(queue)

    def is_meant(task: FoundTask) -> bool:
        return tenant in ("", task.tenant, task.tenant.rpartition("/")[2])

    rows = list(map(_row, on_service(lambda runtime: find_tasks(runtime.items.redis, name, is_meant, limit))))
    documents = [dict(zip(_COLUMNS, each, strict=True)) for each in rows]
    print_found(documents, [each.replace("_", " ") for each in _COLUMNS], rows, as_json=as_json)


def _row(task: FoundTask) -> tuple[object, ...]:
    entry, work, since = task.entry, task.entry.task, format_time(task.entry.first_seen)
    return work.task_id, work.subject, task.tenant, str(task.location), since, entry.attempts, entry.error[:80]


@queues_command.command("cancel")
@click.argument("queue")
@click.argument("task_ids", nargs=-1, required=True)
@json_option
def cancel_command(queue: str, task_ids: tuple[str, ...], as_json: bool) -> None:
    """End tasks of QUEUE as dead letters, which can be replayed: at their next turn, or soon if a worker has them.

    `queues list QUEUE` has their ids. While QUEUE is paused, no task has a turn.
    """
    name = queue_name(queue)
    missing: list[str] = []

    async def find(runtime: Runtime) -> list[str]:
        if not may_be_cancelled(name):
            return [f"{name}/{task_id}" for task_id in task_ids]  # which the action refuses
        wanted = set(task_ids)
        tasks = await find_tasks(runtime.items.redis, name, lambda task: task.entry.task.task_id in wanted, len(wanted))
        known = {each.entry.task.task_id for each in tasks}
        missing.extend(each for each in task_ids if each not in known)
        return [f"{name}/{each}" for each in sorted(known)]

    outcome = act("cancel", find)
    cancelled = [target.partition("/")[2] for target in outcome.done]
    document = {"queue": name, "cancelled": cancelled}
    print_lines(document, [f"{task_id}: cancelled" for task_id in cancelled], as_json=as_json)
    raise_problems(outcome)
    if missing:
        raise CommandFailed(*(f"{task_id}: no such task" for task_id in missing))


async def _stats(runtime: Runtime) -> dict[str, QueueStats]:
    stats = {name: await queue.stats() for name, queue in runtime.items.queues.items()}
    return stats | {DROP_DELETED: await notice_backlog(runtime.items.redis)}


@click.group("jobs", invoke_without_command=True)
@json_option
@click.pass_context
def jobs_command(context: click.Context, as_json: bool) -> None:
    """Show bulk replays (dlq replay --rate), undeletes (undelete --rate) and purges of hosts, ended ones for a week."""
    if context.invoked_subcommand is not None:
        return
    jobs = on_service(lambda runtime: all_jobs(runtime.items.redis))
    print_found(
        [{"job": each.name, **asdict(each)} for each in jobs],
        ["job", "of", "state", "rate", "total", "done", "refused", "started", "by", "last problem"],
        [
            (
                each.name,
                each.whose,
                each.state,
                f"{each.rate:g}/s",
                each.total or "",
                each.done,
                each.refused,
                format_time(each.started_at),
                each.by,
                each.problem[:80],
            )
            for each in jobs
        ],
        as_json=as_json,
    )


def _job_command(word: str, what: str) -> click.Command:
    @click.command(word, help=what)
    @click.argument("job")
    @json_option
    def command(job: str, as_json: bool) -> None:
        state = act_on(f"{word}_job", job)["state"]
        print_lines({"job": job, "done": state}, [f"{job}: {state}"], as_json=as_json)

    return command


jobs_command.add_command(_job_command("pause", "Stop JOB for now."))
jobs_command.add_command(_job_command("resume", "Continue JOB where it stopped."))
jobs_command.add_command(_job_command("cancel", "End JOB. The changes that the job has made stay."))

"""``jobs``: lists bulk replays and undeletes, which the service carries out; pauses, resumes and cancels one."""

from __future__ import annotations

from dataclasses import asdict

import click

from avion_media.backends.queue import all_jobs
from avion_media.cli.operator import act, raise_problems
from avion_media.cli.output import json_option, print_json, print_table
from avion_media.cli.resources import on_service
from avion_media.operations.inspection import format_time


@click.group("jobs", invoke_without_command=True)
@json_option
@click.pass_context
def jobs_command(context: click.Context, as_json: bool) -> None:
    """Show bulk replays (dlq replay --rate) and bulk undeletes (undelete --rate), ended ones for a week."""
    if context.invoked_subcommand is not None:
        return
    jobs = on_service(lambda service: all_jobs(service.items.redis))
    if as_json:
        print_json([{"job": each.name, **asdict(each)} for each in jobs])
        return
    print_table(
        ["job", "state", "rate", "total", "done", "refused", "started", "by", "last problem"],
        [
            (
                each.name,
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
    )


@jobs_command.command("pause")
@click.argument("job")
@json_option
def pause_command(job: str, as_json: bool) -> None:
    """Stop JOB for now."""
    _act("pause_job", job, as_json)


@jobs_command.command("resume")
@click.argument("job")
@json_option
def resume_command(job: str, as_json: bool) -> None:
    """Continue JOB where it stopped."""
    _act("resume_job", job, as_json)


@jobs_command.command("cancel")
@click.argument("job")
@json_option
def cancel_command(job: str, as_json: bool) -> None:
    """End JOB. What it has done stays."""
    _act("cancel_job", job, as_json)


def _act(action: str, job: str, as_json: bool) -> None:
    outcome = act(action, [job])
    raise_problems(outcome)
    state = outcome.done[job]["state"]
    print_json({"job": job, "done": state}) if as_json else click.echo(f"{job}: {state}")

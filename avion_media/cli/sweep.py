"""``avion-media sweep``: one sweep, by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from avion_media.cli.output import console, json_option, load_config, print_json, print_table
from avion_media.cli.problems import CommandFailed, print_problem
from avion_media.cli.resources import act, on_service
from avion_media.common.clock import utc_now
from avion_media.config import Config
from avion_media.items.state.sweep_state import SweepState
from avion_media.operations.log import expire, note_lost
from avion_media.operations.operation import Outcome
from avion_media.process.runtime import Runtime
from avion_media.workers.sweep import MEANINGS, Reconciliation, Report, SweepDecision


@click.command("sweep")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--force", is_flag=True, help="Remove even more than SWEEP__MAX_FRACTION of the objects.")
@json_option
def sweep_command(dry_run: bool, force: bool, as_json: bool) -> None:
    """Remove objects that are not needed any more, and requeue lost tasks.

    The service's `sweeper` role does the same every SWEEP__INTERVAL. Both can run at the same time.
    """
    config = load_config()
    actions: list[dict[str, Any]] = []

    def tell(decision: SweepDecision) -> None:
        if as_json:
            actions.append(describe(decision))
        else:
            console().print(line(decision), markup=False)

    if dry_run:
        report = on_service(partial(_reconcile, config=config, dry_run=True, observe=tell))
    else:
        report = _sweep(config, force=force, tell=tell)
    if as_json:
        print_json(report.to_dict() | {"actions": actions})
    else:
        _print(report)
    if report.refusals and not dry_run:
        raise CommandFailed(*map(str, report.refusals), "look with --dry-run, then repeat with --force")


async def _reconcile(runtime: Runtime, *, config: Config, **how: Any) -> Report:
    await runtime.items.read_remote_ids()
    return await Reconciliation(runtime.replay, config).run(**how)


def _sweep(config: Config, *, force: bool, tell: Callable[[SweepDecision], None]) -> Report:
    bucket = config.s3.bucket

    async def sweep(runtime: Runtime) -> Outcome:
        report = await _reconcile(runtime, config=config, force=force, observe=tell)
        await note_lost(runtime)
        await expire(runtime, config.audit.keep)
        if not report.refusals:
            await SweepState(runtime.items.redis).note_whole_pass(utc_now())  # for those that wait for a sweep
        counts = [f"{counts.media} {reason}" for reason, counts in sorted(report.done.items())]
        swept = f"{', '.join(counts) or 'nothing'} of {report.listed} objects"
        text = "; ".join([swept, *(f"refused: {each}" for each in report.refusals)])
        return Outcome({bucket: {"report": report}}, text=text)

    found: Report = act("sweep", [bucket], sweep).done[bucket]["report"]
    return found


def describe(decision: SweepDecision) -> dict[str, Any]:
    """Return an action for programs."""
    return {
        "media_id": decision.medium.name,
        "reason": str(decision.reason),
        "removed": [each.key for each in decision.to_delete],
        "bytes": decision.size_bytes,
    }


def line(decision: SweepDecision) -> str:
    """Return an action as a line for people."""
    what = " ".join(each.key for each in decision.to_delete) or f"task for {decision.medium.name}"
    return f"{decision.reason:<16}  {what}"


def _print(report: Report) -> None:
    if report.done:
        print_table(
            ["", "media", "objects", "bytes", "" if not report.dry_run else "(dry run: nothing was done)"],
            [
                (reason, counts.media, counts.objects, counts.size_bytes, MEANINGS[reason])
                for reason, counts in sorted(report.done.items())
            ],
        )
    console().print(
        f"{report.listed} objects listed, {report.unrecognized} not recognised, {report.skipped} media skipped",
        markup=False,
    )
    if report.stored:
        print_table(
            ["in the store", "objects", "bytes"],
            [(kind, each.objects, each.size_bytes) for kind, each in sorted(report.stored.items())],
        )
    print_problem(f"warning: {each}" for each in report.warnings)
    if report.dry_run:
        print_problem(f"it would be refused without --force: {each}" for each in report.refusals)

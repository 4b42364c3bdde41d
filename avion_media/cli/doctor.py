"""``avion-media doctor``: examine the store, Redis and the kernel for what the service relies on."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial

import click
from rich.markup import escape

from avion_media.cli.output import console, json_option, load_config, print_json
from avion_media.cli.resources import directly
from avion_media.doctor import Area, Finding, Verdict, examine

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


@click.command("doctor")
@click.argument("areas", nargs=-1, type=click.Choice([str(area) for area in Area]))
@json_option
def doctor_command(areas: tuple[str, ...], as_json: bool) -> None:
    """Examine the store, Redis and the sandbox for what the service relies on.

    AREAS: store, redis, sandbox; all by default. It may run beside the service: objects are made below
    incoming/doctor-… and removed again. Exit status 1 when something that the service promises cannot be kept here.
    """
    wanted = frozenset(map(Area, areas)) or frozenset(Area)
    show = _nothing if as_json else _show
    findings = directly(partial(examine, load_config(), wanted, show))
    if as_json:
        print_json([asdict(each) for each in findings])
    else:
        _summarise(findings)
    if any(each.verdict is Verdict.FAILED for each in findings):
        sys.exit(1)


def _nothing(_finding: Finding) -> None:
    """JSON is printed at the end."""


def _show(finding: Finding) -> None:
    verdict = f"[{_STYLES[finding.verdict]}]{finding.verdict:<7}[/]"
    detail = f"  [dim]{escape(finding.detail)}[/dim]" if finding.detail else ""
    out = console()
    out.print(f"{verdict}  {finding.area:<5}  {escape(finding.claim)}{detail}")
    if finding.otherwise:
        out.print(f"                → {escape(finding.otherwise)}")


def _summarise(findings: list[Finding]) -> None:
    counts = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))

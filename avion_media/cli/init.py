"""``avion-media init``."""

from __future__ import annotations

from functools import partial

import click

from avion_media.cli.output import json_option, load_config, print_json, print_problem
from avion_media.cli.resources import directly
from avion_media.setup import prepare


@click.command("init")
@json_option
def init_command(as_json: bool) -> None:
    """Create what is missing: bucket, CORS, lifecycle rules, consumer groups. Safe to repeat."""
    created, warnings = directly(partial(prepare, load_config()))
    if as_json:
        print_json({"created": created, "warnings": warnings})
        return
    for each in created:
        click.echo(f"created {each}")
    if not created:
        click.echo("nothing was missing")
    print_problem(f"warning: {warning}" for warning in warnings)

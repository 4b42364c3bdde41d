"""``avion-media config``."""

from __future__ import annotations

import click

from avion_media.cli.output import UsageError, json_option, load_config, print_json, print_table
from avion_media.cli.serve import parse_roles, roles_option
from avion_media.common.settings import PREFIX
from avion_media.config import effective


@click.command("config")
@roles_option
@json_option
def config_command(roles: str, as_json: bool) -> None:
    """Print the effective configuration, with secrets masked. Fails on unknown or invalid settings, and on those that
    `serve` with these roles would refuse."""
    config = load_config()
    wanted = parse_roles(roles)
    from avion_media.service import planned_budget, startup_problems  # later: as in `serve`

    problems = startup_problems(config, wanted, planned_budget(config, wanted))
    if problems:
        raise UsageError(*problems)
    sections = effective(config)
    if as_json:
        print_json(sections)
        return
    print_table(
        ["setting", "value"],
        [
            (f"{PREFIX}{section}__{name}".upper(), _shown(value))
            for section, settings in sections.items()
            for name, value in settings.items()
        ],
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)

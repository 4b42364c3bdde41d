"""``avion-media serve``, and ``avion-media config``, which shows what it would run with."""

from __future__ import annotations

import click

from avion_media.cli.output import json_option, load_config, print_found
from avion_media.cli.problems import CommandFailed, UsageError, print_problem
from avion_media.common.settings import PREFIX
from avion_media.config import ConfigError, effective
from avion_media.config.dangers import dangers

roles_option = click.option(
    "--roles", default="", help="Comma-separated: grpc,http,events,processing,cache,delete,sweeper,webhooks. [all]"
)
_CREDENTIALS_HINT = (
    "hint: UPLOAD__CREDENTIALS=drop removes content credentials (C2PA) from uploads;"
    " from 2027-01-01 on, Utah Code 13-72c-201 forbids that to large platforms"
)


@click.command("serve")
@roles_option
def serve_command(roles: str) -> None:
    """Run the service. SIGTERM and SIGINT drain it."""
    config = load_config()
    wanted = parse_roles(roles)
    # The service's modules are imported only now, so that a wrong setting is reported at once.
    from avion_media.service import TreeFailed, serve

    try:
        serve(config, wanted)
    except ConfigError as error:
        raise UsageError(*error.problems) from None
    except TreeFailed as error:
        raise CommandFailed(*error.lines) from error


def parse_roles(text: str) -> frozenset[str]:
    """Return the named roles, or all if none is named. Raises `UsageError` for an unknown one."""
    from avion_media.process.runtime import ROLES

    wanted = frozenset(part.strip() for part in text.split(",") if part.strip()) or frozenset(ROLES)
    unknown = sorted(wanted - frozenset(ROLES))
    if unknown:
        raise UsageError(f"no such role: {', '.join(unknown)} (there are: {', '.join(ROLES)})")
    return wanted


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
    print_problem(f"warning: {each}" for each in dangers(config))
    sections = effective(config)
    print_found(
        sections,
        ["setting", "value"],
        [
            (f"{PREFIX}{section}__{name}".upper(), _shown(value))
            for section, settings in sections.items()
            for name, value in settings.items()
        ],
        as_json=as_json,
    )
    if not config.upload.keeps_credentials:
        print_problem([_CREDENTIALS_HINT])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)

"""``avion-media serve``."""

from __future__ import annotations

import click

from avion_media.cli.output import CommandFailed, UsageError, load_config
from avion_media.config import ConfigError

roles_option = click.option(
    "--roles", default="", help="Comma-separated: grpc,http,events,processing,cache,delete,sweeper. [all]"
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

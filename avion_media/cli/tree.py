"""``avion-media tree``: the live tree, as the admin port of a running service shows it."""

from __future__ import annotations

from typing import Any

import click
import httpx
from rich.markup import escape
from rich.tree import Tree

from avion_media.cli.client import operator_headers, reachable
from avion_media.cli.output import console, json_option, load_config, print_json
from avion_media.cli.problems import CommandFailed
from avion_media.common.settings import PREFIX

_STYLES = {"running": "green", "starting": "yellow", "backoff": "red", "failed": "bold red", "stopping": "yellow"}
_TIMEOUT_S = 5.0


@click.command("tree")
@json_option
def tree_command(as_json: bool) -> None:
    """Show the live tree: states, restarts, last errors, uptimes."""
    config = load_config().admin
    url = f"http://{reachable(config.bind)}/tree"
    try:
        response = httpx.get(url, headers=operator_headers(config), trust_env=False, timeout=_TIMEOUT_S)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise CommandFailed(f"{url} is for operators: give their token as {PREFIX}ADMIN__TOKEN")
        tree: dict[str, Any] = response.raise_for_status().json()
    except httpx.HTTPError as error:
        raise CommandFailed(f"cannot read {url}: {error} (is the service running? see {PREFIX}ADMIN__BIND)") from None
    print_json(tree) if as_json else console().print(_drawn(tree))


def _drawn(node: dict[str, Any], parent: Tree | None = None) -> Tree:
    style = _STYLES.get(node["state"], "dim")
    label = f"{node['name']} [{style}]{node['state']}[/{style}]"
    if "phase" in node:  # the root's: the phase of the process
        label += f" [bold]{node['phase']}[/bold]"
    if node.get("uptime_s") is not None:
        label += f" [dim]{node['uptime_s']:.0f} s[/dim]"
    if node["restarts"]:
        label += f" [yellow]{node['restarts']} restart{'s' if node['restarts'] > 1 else ''}[/yellow]"
    if node["last_failure"]:
        label += f" [red]{escape(node['last_failure'].splitlines()[-1][:100])}[/red]"
    branch = Tree(label) if parent is None else parent.add(label)
    for child in node["children"]:
        _drawn(child, branch)
    return branch

"""``avion-media tree``: the live supervision tree of a running service."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import click
import httpx
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from avion_media.cli.client import reachable
from avion_media.cli.output import CommandFailed, console, json_option, load_config, print_json
from avion_media.cli.tokens import check_admitted, operator_headers

_STYLES = {"running": "green", "starting": "yellow", "backoff": "red", "failed": "bold red", "stopping": "yellow"}


@click.command("tree")
@click.option(
    "--watch",
    is_flag=True,
    help="Keep showing it until Ctrl-C. If it does not fit the terminal, print it at each change.",
)
@json_option
def tree_command(watch: bool, as_json: bool) -> None:
    """Show the live tree: states, restarts, last errors, uptimes."""
    config = load_config().admin
    fetch = partial(_fetch, f"http://{reachable(config.bind)}/tree", operator_headers(config))
    if as_json:
        print_json(fetch())
        return
    if not watch:
        console().print(_drawn(fetch()))
        return
    first = fetch()
    if not _fits_terminal(first):  # a tree for each change, not the codes that redraw a screen
        for tree in _changes(fetch, first):
            console().print(_drawn(tree))
            sys.stdout.flush()
        return
    with Live(_drawn(first), console=console(), refresh_per_second=1) as live:
        while True:
            time.sleep(1.0)
            try:
                live.update(_drawn(fetch()))
            except CommandFailed as error:  # the admin port may be restarting: keep looking
                live.update(Text(str(error), style="red"))


def _fits_terminal(tree: dict[str, Any]) -> bool:
    """Return whether there is a terminal that shows the whole tree. A redrawn tree cannot be scrolled back."""
    out = console()
    return sys.stdout.isatty() and len(out.render_lines(_drawn(tree))) < out.height


def _changes(fetch: Callable[[], dict[str, Any]], tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ``tree``, and then another whenever more than the uptimes has changed. Never ends.

    While the tree cannot be fetched, nothing counts as changed.
    """
    while True:
        yield tree
        before = _without_times(tree)
        while _without_times(tree) == before:
            time.sleep(1.0)
            with suppress(CommandFailed):  # the admin port may be restarting: keep looking
                tree = fetch()


def _without_times(node: dict[str, Any]) -> dict[str, Any]:
    children = [_without_times(child) for child in node["children"]]
    return {**node, "uptime_s": None, "children": children}


def _fetch(url: str, headers: dict[str, str]) -> dict[str, Any]:
    try:
        with httpx.Client(trust_env=False, timeout=5.0, headers=headers) as client:
            tree: dict[str, Any] = check_admitted(client.get(url)).json()
    except httpx.HTTPError as error:
        raise CommandFailed(
            f"cannot read {url}: {error} (is the service running? see AVION_MEDIA_ADMIN__BIND)"
        ) from None
    return tree


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

"""``hosts``: block, unblock, list, purge and measure the hosts of remote media."""

from __future__ import annotations

from dataclasses import asdict

import click

from avion_media.cli.output import json_option, note_option, print_found, print_lines
from avion_media.cli.problems import UsageError
from avion_media.cli.resources import act_on, on_service
from avion_media.common.settings import format_size
from avion_media.items.moderation import BlockedHost, InvalidHost, parse_host
from avion_media.items.moderation.hosts import EXACTLY
from avion_media.items.owners import Usage
from avion_media.operations.operation import Facts
from avion_media.process.runtime import Runtime

_exact_option = click.option("--exact", is_flag=True, help="Not the hosts below it.")


@click.group("hosts")
def hosts_command() -> None:
    """Block, unblock, list, purge and measure the hosts of remote media."""


def _target(host: str, *, exact: bool) -> str:
    try:
        return parse_host(f"{EXACTLY if exact else ''}{host}").name
    except InvalidHost as error:
        raise UsageError(f"{host}: {error}") from None


def _counted(facts: Facts, done: str, *, as_json: bool) -> None:
    removal = f", which job {facts['job']} removes" if "job" in facts else ""
    print_lines(dict(facts), [f"{facts['host']}: {done}; {facts['found']} copies found{removal}"], as_json=as_json)


@hosts_command.command("block")
@click.argument("host")
@_exact_option
@note_option
@click.option("--purge", is_flag=True, help="Remove its copies, too.")
@json_option
def block_command(host: str, exact: bool, note: str, purge: bool, as_json: bool) -> None:
    """Fetch nothing more from a host and the hosts below it. All replicas refuse it at once."""
    facts = act_on("block_host", _target(host, exact=exact), note=note, purge=purge)
    _counted(facts, "blocked", as_json=as_json)


@hosts_command.command("unblock")
@click.argument("host")
@note_option
@json_option
def unblock_command(host: str, note: str, as_json: bool) -> None:
    """Fetch from a host again."""
    act_on("unblock_host", _target(host, exact=False), note=note)
    print_lines({"unblocked": host}, [f"{host}: unblocked"], as_json=as_json)


@hosts_command.command("purge")
@click.argument("host")
@_exact_option
@json_option
def purge_command(host: str, exact: bool, as_json: bool) -> None:
    """Remove the copies of a host and the hosts below it (see: avion-media jobs)."""
    _counted(act_on("purge_host", _target(host, exact=exact)), "purged", as_json=as_json)


@hosts_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Show the blocked hosts, also those of REMOTE__DENY_HOSTS."""

    async def load(runtime: Runtime) -> list[BlockedHost]:
        found, token = await runtime.moderation.hosts.list()
        while token:
            more, token = await runtime.moderation.hosts.list(token)
            found += more
        return found

    found = on_service(load)
    rows = [(each.host, "exact" if each.exact else "", each.since, each.by, each.note) for each in found]
    print_found([asdict(each) for each in found], ("host", "scope", "since", "by", "note"), rows, as_json=as_json)


@hosts_command.command("not-cacheable")
@json_option
def not_cacheable_command(as_json: bool) -> None:
    """Show the hosts whose servers forbid copies of their files (Cache-Control), and how often they did."""
    found = on_service(lambda runtime: runtime.items.remote_states.not_cacheable())
    document = [{"host": host, "count": count} for host, count in found.items()]
    print_found(document, ("host", "refusals"), list(found.items()), as_json=as_json)


@hosts_command.command("usage")
@click.argument("host", required=False, default="")
@json_option
def usage_command(host: str, as_json: bool) -> None:
    """Show how many copies of each kind each host has, and their size, the largest first. With HOST: of that host
    alone."""
    wanted = _target(host, exact=True).removeprefix(EXACTLY) if host else ""

    async def load(runtime: Runtime) -> dict[tuple[str, str], Usage]:
        index = runtime.items.hosts
        hosts = [wanted] if wanted else [each async for each in index.hosts(lambda _host: True)]
        return {(each, kind): usage for each in hosts for kind, usage in (await index.usage_by_kind(each)).items()}

    found = sorted(on_service(load).items(), key=lambda each: -each[1].size_bytes)
    document = [
        {"host": each, "kind": kind, "count": usage.count, "bytes": usage.size_bytes} for (each, kind), usage in found
    ]
    rows = [(each, kind, usage.count, format_size(usage.size_bytes)) for (each, kind), usage in found]
    print_found(document, ("host", "kind", "copies", "bytes"), rows, as_json=as_json)

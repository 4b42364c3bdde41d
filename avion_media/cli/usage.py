"""``avion-media usage``: counts the media of owners by the index in the bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from avion_media.cli.output import check_owner, console, json_option, print_json, print_table
from avion_media.cli.resources import on_service
from avion_media.common.settings import format_size
from avion_media.items.owners import OwnedMedium
from avion_media.process.runtime import Runtime

Group = tuple[str, str]
"""Kind (image, video or audio) and month (2026-11)."""


@dataclass(slots=True)
class OwnerUsage:
    """The media of one owner, by kind and month."""

    owner: str
    counts: Counter[Group] = field(default_factory=Counter)
    sizes: Counter[Group] = field(default_factory=Counter)

    def add(self, owned: OwnedMedium) -> None:
        """Count one media item."""
        group = str(owned.media_id.format.family), f"{owned.media_id.created:%Y-%m}"
        self.counts[group] += 1
        self.sizes[group] += owned.size_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the usage for programs."""
        return {
            "owner": self.owner,
            "count": self.counts.total(),
            "bytes": self.sizes.total(),
            "by_kind_and_month": [
                {"kind": kind, "month": month, "count": count, "bytes": self.sizes[kind, month]}
                for (kind, month), count in sorted(self.counts.items(), key=lambda item: item[0][::-1])
            ],
        }


@click.command("usage")
@click.argument("owner", required=False, default="", callback=check_owner)
@json_option
def usage_command(owner: str, as_json: bool) -> None:
    """Show the media of an owner: bytes and counts by kind and month. Without OWNER: of all owners.

    The bytes are those of the original, its thumbnails and its content credentials when the media item became public.
    """
    found = on_service(partial(_usage, owner))
    if owner and not found:
        found = [OwnerUsage(owner)]
    if as_json:
        print_json(found[0].to_dict() if owner else [each.to_dict() for each in found])
    else:
        _print_usage(found, owner or "all owners")


async def _usage(owner: str, runtime: Runtime) -> list[OwnerUsage]:
    """Return one usage for each owner. Memory grows with the owners, not with their media."""
    found: list[OwnerUsage] = []
    async for page in runtime.items.owners.media(owner):
        for owned in page:
            if not found or found[-1].owner != owned.owner:
                found.append(OwnerUsage(owned.owner))
            found[-1].add(owned)
    return sorted(found, key=lambda each: each.owner)


def _print_usage(found: Sequence[OwnerUsage], named: str) -> None:
    print_table(
        ["owner", "month", "kind", "media", "bytes"],
        [
            (usage.owner, month, kind, count, format_size(usage.sizes[kind, month]))
            for usage in found
            for (kind, month), count in sorted(usage.counts.items(), key=lambda item: item[0][::-1])
        ],
    )
    count, size = sum(each.counts.total() for each in found), sum(each.sizes.total() for each in found)
    console().print(f"{named}: {count} media, {format_size(size)}", markup=False)

"""``avion-media usage``: counts the media of owners by the index in the bucket."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import click

from avion_media.cli.output import check_owner, console, json_option, print_json, print_table
from avion_media.cli.resources import on_service
from avion_media.common.settings import format_size
from avion_media.process.runtime import Runtime

Group = tuple[str, str]
"""Month (2026-11) and kind (image, video or audio)."""
ByOwner = defaultdict[str, Counter[Group]]


@click.command("usage")
@click.argument("owner", required=False, default="", callback=check_owner)
@json_option
def usage_command(owner: str, as_json: bool) -> None:
    """Show the media of an owner: bytes and counts by kind and month. Without OWNER: of all owners.

    Media without an owner are not counted; `avion-media sweep --dry-run` counts the whole bucket. The bytes are those
    of the original, its thumbnails and its content credentials when the media item became public.
    """
    counts, sizes = ByOwner(Counter), ByOwner(Counter)

    async def load(runtime: Runtime) -> None:
        """Memory grows with the owners, not with their media."""
        async for page in runtime.items.owners.media(owner):
            for owned in page:
                group = f"{owned.media_id.created:%Y-%m}", str(owned.media_id.format.family)
                counts[owned.owner][group] += 1
                sizes[owned.owner][group] += owned.size_bytes

    on_service(load)
    if as_json:
        found = [_document(each, counts[each], sizes[each]) for each in ([owner] if owner else sorted(counts))]
        print_json(found[0] if owner else found)
        return
    print_table(
        ["owner", "month", "kind", "media", "bytes"],
        [
            (each, month, kind, count, format_size(sizes[each][month, kind]))
            for each in sorted(counts)
            for (month, kind), count in sorted(counts[each].items())
        ],
    )
    total, total_bytes = (sum(each.total() for each in by_owner.values()) for by_owner in (counts, sizes))
    console().print(f"{owner or 'all owners'}: {total} media, {format_size(total_bytes)}", markup=False)
    if not owner:
        click.echo("Media without an owner are not counted: `avion-media sweep --dry-run` counts the whole bucket.")


def _document(owner: str, counts: Counter[Group], sizes: Counter[Group]) -> dict[str, Any]:
    """Return the usage of an owner for programs."""
    return {
        "owner": owner,
        "count": counts.total(),
        "bytes": sizes.total(),
        "by_kind_and_month": [
            {"kind": kind, "month": month, "count": count, "bytes": sizes[month, kind]}
            for (month, kind), count in sorted(counts.items())
        ],
    }

"""``avion-media usage``: counts the media of owners by the index in the bucket."""

from __future__ import annotations

from collections import Counter

import click

from avion_media.cli.output import check_owner, json_option, print_found
from avion_media.cli.resources import on_service
from avion_media.common.settings import format_size
from avion_media.process.runtime import Runtime


@click.command("usage")
@click.argument("owner", required=False, default="", callback=check_owner)
@json_option
def usage_command(owner: str, as_json: bool) -> None:
    """Show how many media each owner has, and their size, the largest first. With OWNER: of that owner alone.

    The bytes are those of the original, its thumbnails and its content credentials when the media item became public.
    """
    counts, sizes = Counter({owner: 0}) if owner else Counter[str](), Counter[str]()

    async def load(runtime: Runtime) -> None:
        async for page in runtime.items.owners.media(owner):
            for owned in page:
                counts[owned.owner] += 1
                sizes[owned.owner] += owned.size_bytes

    on_service(load)
    found = sorted(counts, key=lambda each: -sizes[each])
    document = [{"owner": each, "count": counts[each], "bytes": sizes[each]} for each in found]
    rows = [(each, counts[each], format_size(sizes[each])) for each in found]
    print_found(document, ("owner", "media", "bytes"), rows, as_json=as_json)

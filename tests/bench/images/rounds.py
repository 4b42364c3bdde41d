"""Our side: makes the thumbnails of one picture `rounds` times over, and leaves the last ones in a directory.

usage: rounds.py <picture> <format> <rounds> <directory> <quality> <edge> [<edge> ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from mediascrub import Format, read_picture
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, vips
from mediathumbs.pictures import make_thumbnails

vips.allow_png()
vips.allow_webp()


def main(picture: str, format_name: str, rounds: str, directory: str, quality: str, *edges: str) -> None:
    """Run the rounds; each reads nothing but bytes in memory, as sharp's side does."""
    data = Path(picture).read_bytes()
    sizes = [ThumbnailSize(edge, int(edge)) for edge in edges]
    for _ in range(int(rounds)):
        read = read_picture(memoryview(data), Format(format_name), PictureBounds())
        result = make_thumbnails(read, sizes, quality=int(quality))
    for edge, thumbnail in result.by_name.items():
        Path(directory, f"{edge}.jpg").write_bytes(thumbnail)
    # Not ru_maxrss: that of a child begins with its parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path(directory, "peak_rss_kib").write_text(status["VmHWM"].split()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])

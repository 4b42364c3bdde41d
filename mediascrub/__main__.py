"""``scrub FILE… [-o OUT]``, also as ``python -m mediascrub``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mediascrub.errors import ScrubError
from mediascrub.files import scrub_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Scrub the named files. Return 1 if one of them could not be scrubbed."""
    parser = argparse.ArgumentParser(
        prog="scrub",
        description="Write copies of photos, videos and audio without private data.",
        epilog="The copy of photo.jpg is photo.scrubbed.jpg beside it. The file itself is never changed.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="the copy, or a directory for all copies, which is made"
    )
    given = parser.parse_args(arguments)
    if len(given.files) > 1 and given.output is not None:
        try:
            given.output.mkdir(exist_ok=True)
        except OSError as error:
            parser.error(f"with several files, OUT must be a directory: {error}")
    results = [_scrub(source, _target(source, given.output)) for source in given.files]
    return 0 if all(results) else 1


def _target(source: Path, output: Path | None) -> Path:
    if output is None:
        return source.with_name(f"{source.stem}.scrubbed{source.suffix}")
    return output / source.name if output.is_dir() else output


def _scrub(source: Path, target: Path) -> bool:
    try:
        if target.exists() and target.samefile(source):
            raise OSError("the copy would replace the file itself")
        differs = scrub_file(source, target)
    except (OSError, ScrubError) as error:
        print(f"{source}: {error}", file=sys.stderr)
        return False
    print(f"{source} -> {target}" + ("" if differs else ", nothing to remove"))
    return True


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.conformance.media [SUITE…]``: the exit status is 1 if something is wrong."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from avion_media.backends.files import open_spool
from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import FORMATS, Family, MediaFormat
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.scrubber import require_format
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import HEAD_BYTES, Format, sniff
from mediascrub.tests import allowed_in_videos, allowed_tags
from mediascrub.tests.samples import decode
from mediascrub.tests.samples import exiftool as exiftool_of_pictures
from mediascrub.tests.videos import exiftool as exiftool_of_videos
from mediascrub.tests.videos import frames
from tests.conformance.media.suites import SUITES, Suite
from tests.unit.media.pieces import Pieces

_ENABLED = frozenset(fmt.name for fmt in FORMATS)
_FAULTS = frozenset((Reason.DECODER_CRASHED, Reason.INTERNAL, Reason.POISON))
_OF_EXIFTOOL = ("ExifTool:Warning", "ExifTool:Error")  # about files that are cut off
_FILE_LIMIT_S = 300


@dataclass
class Outcome:
    """What became of the files of a suite."""

    files: int = 0
    accepted: int = 0
    identical: int = 0
    incomparable: int = 0  # accepted, but the reference decoder refuses the file itself, or shows another picture of it
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
        compared = self.accepted - self.incomparable
        return (
            f"{self.files} files: {self.accepted} accepted, {self.identical} of {compared} identical when decoded,"
            f" {len(self.wrong)} wrong; refused: {refused or 'none'}"
        )


async def run(suite: Suite, pipeline: MediaPipeline, target: Path) -> Outcome:
    """Process all files of a suite. Write what is published below ``target``."""
    outcome = Outcome()
    published: dict[Path, MediaFormat] = {}
    for path in suite.files():
        outcome.files += 1
        try:
            with trio.fail_after(_FILE_LIMIT_S):
                fmt, data = await _process(path, pipeline)
        except Rejected as rejected:
            outcome.refused[rejected.reason.value] += 1
            if rejected.reason in _FAULTS:
                outcome.wrong.append(f"{path}: {rejected}")
            continue
        except Exception as error:  # noqa: BLE001 - the next file may be all right
            outcome.wrong.append(f"{path}: {error!r}")
            continue
        copy = target / f"{outcome.accepted}-{path.name}"
        copy.write_bytes(data)
        outcome.accepted += 1
        published[copy] = fmt
        before, after = _decoded(path, fmt), _decoded(copy, fmt)
        if before is None or path.name in suite.disputed:
            outcome.incomparable += 1
        elif before == after:
            outcome.identical += 1
        else:
            outcome.wrong.append(f"{path}: decodes to something else")
    outcome.wrong += _private(published)
    return outcome


async def _process(path: Path, pipeline: MediaPipeline) -> tuple[MediaFormat, bytes]:
    """Return the format and what is published."""
    with ExitStack() as files:
        source = Pieces(path, files.enter_context(open_spool()), whole=True)
        found = sniff(os.pread(source.fd, HEAD_BYTES, 0), size=source.size_bytes)
        made = await pipeline.process(source, require_format(found, None, _ENABLED), files)
        fd, length = (made.scrubbed_fd, made.scrubbed_bytes) if made.scrubbed_fd else (source.fd, source.size_bytes)
        return made.format, os.pread(fd, length, 0)


def _decoded(path: Path, fmt: MediaFormat) -> object:
    """Return all pixels or samples by another decoder; None if it refuses the file."""
    if fmt.family is not Family.IMAGE:
        return frames(path) or None
    try:
        return decode(path.read_bytes(), Format(fmt.name))
    except (OSError, SyntaxError, ValueError, RuntimeError, subprocess.SubprocessError):
        return None


def _private(published: dict[Path, MediaFormat]) -> list[str]:
    """Return what exiftool finds that must not be there."""
    pictures = [path for path, fmt in published.items() if fmt.family is Family.IMAGE]
    others = [path for path in published if path not in pictures]
    found = []
    for name, tags in (exiftool_of_pictures(*pictures) if pictures else {}).items():
        left = allowed_tags.leaks(tags).items()
        found += [f"{name}: {tag} = {value}" for tag, value in left if tag not in _OF_EXIFTOOL]
    for each in exiftool_of_videos(*others) if others else []:
        found += [f"{each['SourceFile']}: {leak}" for leak in allowed_in_videos.leaks(each)]
    return found


async def _main(suites: list[Suite]) -> bool:
    config = SandboxConfig()
    is_right = True
    async with open_sandbox(budget_bytes=config.budget, preload=preload_for(_ENABLED)) as sandbox:
        pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), config)
        for suite in suites:
            with tempfile.TemporaryDirectory() as folder:
                outcome = await run(suite, pipeline, Path(folder))
            print(f"{suite.name} ({suite.url.rpartition('/')[2]}): {outcome}", flush=True)
            for each in outcome.wrong:
                print(f"  {each}", flush=True)
            is_right &= not outcome.wrong
    return is_right


def main() -> int:
    """Run the named suites, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.media", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SUITE", help=f"of: {', '.join(each.name for each in SUITES)}")
    names = parser.parse_args().names
    unknown = sorted({*names} - {each.name for each in SUITES})
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    return 0 if trio.run(_main, [each for each in SUITES if not names or each.name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())

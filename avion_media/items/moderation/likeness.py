"""PDQ hashes of images, in a sandbox of their own, which starts when the first hash is requested.

It is separate from the decoders' sandbox because of NumPy, which the hash needs: it would cost each fork of the
decoders 1.6 ms, and each start of their fork server 0.14 s of CPU, even if no list has such a hash. The image is a
thumbnail that the decoders made: 800 pixels give the same hash as the original within 2 bits, with a hundredth of the
CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import trio

from avion_media.backends.files import open_spool, write_at
from avion_media.common.errors import Dependency, Reason, Rejected, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.lists import MIN_QUALITY
from avion_media.media.sandbox import Sandbox, open_sandbox
from mediathumbs import WEBP_SUFFIX
from trio_sandbox import Limits, read_only
from trio_telemetry import get_logger

_JOB = "avion_media.items.moderation.jobs:pdq_job"
PRELOAD = ("avion_media.items.moderation.jobs",)
_MEMORY_BYTES = 128 << 20
_LIMITS = Limits(memory_bytes=_MEMORY_BYTES, cpu_s=5, wall_s=10, output_bytes=1 << 20)
_START_S = 30.0
_PAUSE_S = 5.0  # pause before the next start, after a failed start or a crash of the fork server
BIG_ENOUGH = 512  # pixels of the longest edge; the smallest thumbnail that is at least as large is used
_PDQ = re.compile("[0-9a-f]{64}")
_log = get_logger()


class Likeness:
    """Computes PDQ hashes while `run` runs."""

    def __init__(self, *, require: bool) -> None:
        self._require = require
        self._sandbox: ResourceSlot[Sandbox] = ResourceSlot(Dependency.SANDBOX)
        self._wanted = trio.Event()

    async def run(self) -> None:
        """Start the sandbox when it is needed, and keep it running. Never returns."""
        while True:
            await self._wanted.wait()
            try:
                await self._keep()
            except Unavailable as error:
                _log.warning("likeness.unavailable", detail=error.detail)
                await trio.sleep(_PAUSE_S)

    async def _keep(self) -> None:
        async with open_sandbox(slots=1, budget_bytes=_MEMORY_BYTES, preload=PRELOAD, require=self._require) as sandbox:
            with self._sandbox.filled(sandbox):
                await sandbox.maintain()

    async def of(self, picture: bytes) -> bytes | None:
        """Return the hash of a thumbnail, or None for an image with too little structure.

        Raises `Unavailable` while the sandbox is unavailable, `Rejected` if it cannot read its own image.
        """
        self._wanted.set()
        with trio.move_on_after(_START_S):
            sandbox = await self._sandbox.wait()
            return _checked(await _call(sandbox, picture))
        raise Unavailable(Dependency.SANDBOX, "no PDQ hash within its time")


def picture_of(thumbnails: Mapping[str, bytes], edges: Mapping[str, int]) -> bytes | None:
    """Return the thumbnail to hash: the smallest JPEG that is large enough, else the largest."""
    sizes = sorted((name for name in thumbnails if not name.endswith(WEBP_SUFFIX)), key=lambda name: edges.get(name, 0))
    enough = [name for name in sizes if edges.get(name, 0) >= BIG_ENOUGH]
    chosen = enough[:1] or sizes[-1:]
    return thumbnails[chosen[0]] if chosen else None


async def _call(sandbox: Sandbox, picture: bytes) -> Any:
    with open_spool() as fd:
        write_at(fd, picture, 0)
        with read_only(fd) as own:
            return await sandbox.call(_JOB, {}, files=[own], limits=_LIMITS)


def _checked(answer: Any) -> bytes | None:
    """Check the plausibility of the job's result."""
    found = answer if isinstance(answer, dict) else {}
    digest, quality = found.get("pdq"), found.get("quality")
    if not isinstance(digest, str) or not _PDQ.fullmatch(digest) or type(quality) is not int:
        raise Rejected(Reason.DECODER_CRASHED, f"an answer that is none: {answer!r}"[:300])
    return bytes.fromhex(digest) if quality >= MIN_QUALITY else None

"""mediascrub's formats and errors in the service's terms."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_NAME, Family, MediaFormat
from avion_media.common.media import MAX_MANIFEST_BYTES, CredentialsState
from mediascrub import Credentials, MediaKind, Range, ScrubCode, Sniffed
from mediascrub.sniffing import EMPTY, UNKNOWN

REASONS: Final = {
    each: Reason.UNSUPPORTED_TYPE if each is ScrubCode.UNSUPPORTED else Reason[each.name] for each in ScrubCode
}
"""What the codes of mediascrub are in this service."""


def state_of(found: Credentials | None, *, keep: bool) -> CredentialsState:
    """Return what becomes of the content credentials of a file.

    Inside a scrubbed file they would make it look forged: a validator rejects a manifest whose hash does not match the
    file (C2PA 2.2, 15.5.5). So they stay inside only where nothing else is removed.
    """
    if found is None:
        return CredentialsState.NONE
    if keep and found.alone:
        return CredentialsState.IN_FILE
    fits = 0 < found.size_bytes <= MAX_MANIFEST_BYTES
    return CredentialsState.BESIDE_FILE if keep and fits else CredentialsState.DROPPED


def read_manifest(fd: int, parts: Iterable[Range]) -> bytes:
    """Return the manifest that is in these parts of a file."""
    return b"".join(os.pread(fd, part.length, part.offset) for part in parts)


def known_format(found: Sniffed) -> MediaFormat | None:
    """Return the format of the content; None if it is not supported."""
    return None if found.format is None else BY_NAME[found.format.value]


def require_format(found: Sniffed, declared: Family | None, enabled: frozenset[str]) -> MediaFormat:
    """Return the format of the content, if it is accepted: of the declared family, and with its decoder switched on.

    A container of videos is one of sound alone if audio is declared. ``declared`` is None if nobody declared one.
    ``enabled`` are format names. Raises `Rejected`, with the most specific reason: EMPTY, TYPE_MISMATCH (another
    family), UNSUPPORTED_TYPE (known, but not accepted or switched off), UNKNOWN_TYPE.
    """
    if found.name == EMPTY:
        raise Rejected(Reason.EMPTY)
    other = found.format.other if found.format is not None else None
    if declared is Family.AUDIO and other is not None and other.kind is MediaKind.AUDIO is not found.kind:
        found = Sniffed(other, other.value, other.kind)
    if found.kind is not None and declared is not None and Family(found.kind.value) is not declared:
        raise Rejected(Reason.TYPE_MISMATCH, f"declared {declared}, found {found.name}")
    if found.name == UNKNOWN:
        raise Rejected(Reason.UNKNOWN_TYPE)
    fmt = known_format(found)
    if fmt is None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, found.name)
    require_switched_on(fmt, enabled)
    return fmt


def require_switched_on(fmt: MediaFormat, enabled: frozenset[str]) -> None:
    """Raise `Rejected` (UNSUPPORTED_TYPE) unless the format is one of these names."""
    if fmt.name not in enabled:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"{fmt.name} is switched off")

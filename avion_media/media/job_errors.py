"""What a sandboxed process does with an exception of its job: see `sandbox`.

The fork server loads it, and with it mediascrub, which the jobs need anyway.
"""

from __future__ import annotations

from avion_media.common.errors import Reason, Rejected
from avion_media.media.scrubber import REASONS
from mediascrub import ScrubError
from trio_sandbox import InputRejected, LimitExceeded


def rejection_of(error: Exception) -> InputRejected | LimitExceeded | None:
    """Return what an error about the file is to `trio_sandbox`; None for any other exception, which is a bug."""
    if isinstance(error, ScrubError):
        return InputRejected(REASONS[error.code], error.detail)
    if not isinstance(error, Rejected):
        return None
    if error.reason is Reason.DECODER_LIMIT:
        return LimitExceeded(error.detail)
    return InputRejected(error.reason, error.detail)

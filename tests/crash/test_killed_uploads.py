"""A few uploads that are killed; a hundred, at every step: `make crash`."""

from __future__ import annotations

import pytest

from tests.crash.lane import open_lane
from tests.crash.uploads import ONE_PUT, PARTS, RESUMED, Kill, open_uploads
from tests.services import S3Address

LEFT_IN_INCOMING = Kill(ONE_PUT, True, "client:PUT", 1, "killed after")
LEFT_IN_PARTS = Kill(PARTS, True, "client:PUT", 2, "killed before")
RESUMED_AFTER_A_CRASH = Kill(RESUMED, False, "s3:CompleteMultipartUpload incoming/ID", 1, "killed after", True)


@pytest.mark.timeout(120)
def test_the_sweep_leaves_nothing_of_killed_uploads(ceph_address: S3Address) -> None:
    with open_lane(ceph_address) as lane, open_uploads(lane) as uploads:
        uploads.begin()
        assert all(uploads.kill(each) for each in (LEFT_IN_INCOMING, LEFT_IN_PARTS, RESUMED_AFTER_A_CRASH))
        assert len(uploads.wrong()) == 2  # before the sweep, the leftovers exist
        assert uploads.sweep() == {"abandoned": 1, "unfinished": 1}
        assert uploads.wrong() == []
        assert len(uploads.ready()) == 1

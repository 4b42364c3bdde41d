"""Makes the sweeper look again after tenths of a second; the real one waits for five or fifteen."""

from __future__ import annotations

from avion_media.nodes import sweeper

sweeper._POLL_S = 0.2
sweeper._FOLLOWER_S = 0.5

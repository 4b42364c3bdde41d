"""`avion-media` with a sweeper that looks again after tenths of a second; the real one waits for five or ten."""

from __future__ import annotations

from avion_media.__main__ import main
from avion_media.nodes import sweeper

if __name__ == "__main__":
    sweeper._POLL_S = 0.2
    sweeper._FOLLOWER_S = 0.5
    main()

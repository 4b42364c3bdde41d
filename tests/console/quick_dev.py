"""`avion-media` with figures and live pages that are half a second old at most; otherwise they are seconds old."""

from __future__ import annotations

from avion_media.__main__ import main
from avion_media.nodes import gauges
from avion_media.process import runtime
from avion_media.servers.console import drawing

if __name__ == "__main__":
    gauges._COUNTED_S = runtime._SAMPLING_S = 0.5
    drawing._INTERVAL_S = 0.5  # type: ignore[misc]
    main()

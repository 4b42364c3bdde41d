"""`avion-media` whose answers are good for one second while Redis is unavailable; those of the real one for 60."""

from __future__ import annotations

from avion_media.__main__ import main
from avion_media.servers.origin import app

if __name__ == "__main__":
    app.UNCERTAIN = "public, max-age=1"
    main()

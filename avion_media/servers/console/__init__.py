"""The operator's console on the admin port. The pages work without JavaScript; with JavaScript they update themselves.

health      how the service is, judged in one place; the banner, badges and counts follow from it
dead_letters, recent, media_item, moderation, audit
            what the pages list: read in bounded steps, since no index serves their filters
actions     the table of all that operators can do; `questions` asks first, does it, and writes it down
drawing     data to HTML (``templates/``, `charts`, `wording`), region by region; `live` sends those that changed
pages       the routes; `sessions` knows who may act, `uploads` is what a client does, for the upload box of `dev`
"""

from avion_media.servers.console.pages import Console
from avion_media.servers.console.sessions import Sessions
from avion_media.servers.console.uploads import Uploads

__all__ = ["Console", "Sessions", "Uploads"]

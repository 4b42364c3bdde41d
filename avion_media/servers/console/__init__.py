"""The operator's console on the admin port. The pages work without JavaScript; with JavaScript they update themselves.

health      how the service is, judged in one place; the banner, badges and counts follow from it
media_list, media_item, moderation
            what the pages list: read in bounded steps, since no index serves their filters
questions   what a form asks for, and the question before it; `avion_media.operations` carries it out and records it
prometheus  charts over a day or a week
drawing     data to HTML (``templates/``, `charts`, `wording`), region by region; sends those that changed
pages       the routes; `sessions` knows who may act, `uploads` is what a client does, for the upload box of `dev`
"""

from avion_media.servers.console.pages import Console
from avion_media.servers.console.sessions import Sessions
from avion_media.servers.console.uploads import Uploads

__all__ = ["Console", "Sessions", "Uploads"]

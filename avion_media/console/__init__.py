"""The operator's page on the admin port: the tree, the queues, the dead letters, recent media.

It works without JavaScript, and keeps itself up to date with it.

`overview` gathers what there is to see (plain data), ``templates/`` draws it, `live` sends what changes, `pages` is the
routes, `sessions` knows who may act, `uploads` is what a client does, for the upload box of `avion-media dev`.
"""

from avion_media.console.pages import Console
from avion_media.console.sessions import Sessions
from avion_media.console.uploads import Uploads

__all__ = ["Console", "Sessions", "Uploads"]

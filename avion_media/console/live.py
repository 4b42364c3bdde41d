"""The live page: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) with the sections
that changed, as HTML."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from starlette.responses import Response, StreamingResponse

from avion_media.console.drawing import Viewer, draw_sections
from avion_media.console.overview import Overview

_INTERVAL_S: Final = 1.0
_KEEP_ALIVE_S: Final = 15.0  # a proxy in between gives up on a silent connection
_MAX_VIEWERS: Final = 16


class LivePages:
    """Open streams of one process, a bounded number of them."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._viewers = 0

    def stream(self, viewer: Viewer, may_look: Callable[[], bool]) -> Response:
        """Events for one page, until its browser goes or may look no more; 503 when too many look on already."""
        if self._viewers >= _MAX_VIEWERS:
            return Response("too many live pages\n", 503, headers={"Retry-After": "10"})
        return StreamingResponse(self._events(viewer, may_look), media_type="text/event-stream")

    async def _events(self, viewer: Viewer, may_look: Callable[[], bool]) -> AsyncIterator[str]:
        self._viewers += 1
        try:
            shown: dict[str, str] = {}
            said_at = trio.current_time()
            while may_look():
                sections = await draw_sections(self._overview, viewer)
                for name, html in sections.items():
                    if shown.get(name) != html:
                        said_at = trio.current_time()
                        yield f"event: section\ndata: {json.dumps({'name': name, 'html': html})}\n\n"
                shown = sections
                if trio.current_time() - said_at > _KEEP_ALIVE_S:
                    said_at = trio.current_time()
                    yield ": still here\n\n"
                await trio.sleep(_INTERVAL_S)
        finally:
            self._viewers -= 1

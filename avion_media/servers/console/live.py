"""The live page: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) with the regions
that changed, as HTML."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from starlette.responses import Response, StreamingResponse

from avion_media.servers.console.drawing import FRAME_REGIONS, PAGES, View, draw_region

_INTERVAL_S: Final = 2.0
_KEEP_ALIVE_S: Final = 15.0  # proxies close a silent connection
_MAX_VIEWERS: Final = 16
_REGIONS: Final = {page.name: (*FRAME_REGIONS, *page.regions) for page in PAGES}


class LivePages:
    """The open streams of one process. Their number is limited."""

    def __init__(self) -> None:
        self._viewers = 0

    def stream(self, look: Callable[[], View], may_look: Callable[[], bool]) -> Response:
        """Return events for one page, until its browser leaves or its session ends; 503 if too many are open."""
        if self._viewers >= _MAX_VIEWERS:
            return Response("too many live pages\n", 503, headers={"Retry-After": "10"})
        return StreamingResponse(self._events(look, may_look), media_type="text/event-stream")

    async def _events(self, look: Callable[[], View], may_look: Callable[[], bool]) -> AsyncIterator[str]:
        self._viewers += 1
        try:
            shown: dict[str, str] = {}
            sent_at = trio.current_time()
            while may_look():
                view = look()
                for name in _REGIONS.get(view.page, FRAME_REGIONS):
                    html = await draw_region(name, view)
                    if shown.get(name) != html:
                        shown[name], sent_at = html, trio.current_time()
                        yield f"event: region\ndata: {json.dumps({'name': name, 'html': html})}\n\n"
                if trio.current_time() - sent_at > _KEEP_ALIVE_S:
                    sent_at = trio.current_time()
                    yield ": still here\n\n"
                await trio.sleep(_INTERVAL_S)
        finally:
            self._viewers -= 1

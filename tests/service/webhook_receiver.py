"""An endpoint of webhooks, as another service has it."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.services.http import serving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Receiver:
    """An endpoint that answers with a status, or hangs until that event, and keeps what it was sent."""

    url: str
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)  # by id: when it was first answered with 2xx, monotonic
    status: int = 204
    hangs: threading.Event | None = None

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.requests]


@contextmanager
def receiver(status: int = 204, *, hangs: bool = False, port: int = 0) -> Iterator[Receiver]:
    """An endpoint, on a free port by default."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            if found.hangs is not None:
                found.hangs.wait()
                return
            if found.status // 100 == 2:
                found.accepted.setdefault(self.headers.get("webhook-id", ""), time.monotonic())
            self.send_response(found.status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler, port=port) as bound:
        found = Receiver(f"http://127.0.0.1:{bound}/hook?token=hunter2", status=status)
        found.hangs = threading.Event() if hangs else None
        try:
            yield found
        finally:
            if found.hangs is not None:
                found.hangs.set()


def endpoint(name: str, url: str, **more: Any) -> dict[str, Any]:
    """Return its entry in the file of endpoints."""
    inner = {"insecure": True, "internal": True}
    return {"name": name, "url": url, "secrets": [SECRET], "events": ["media.ready", "media.failed"]} | inner | more

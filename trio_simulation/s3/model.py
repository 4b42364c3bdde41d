"""The server: HTTP/1.1, and its troubles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import h11
import trio

from .messages import Answer, Refused, Request
from .objects import Bucket
from .operations import perform

if TYPE_CHECKING:
    from ..faults import Begin, Fault
    from ..simulation import Simulation

_RECEIVED_BYTES = 65536
_MAX_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one request.

    Attributes:
      delay_s: the answer comes so much later.
      refused: the answer is 503 SlowDown, and nothing is done.
      lost: the connection is closed after the effect, without an answer.
    """

    delay_s: float = 0.0
    refused: bool = False
    lost: bool = False


class S3Model:
    """A store with one bucket, for the program of a node: ``node.start(model.serve)``.

    It speaks path-style S3 without checking signatures. Its objects outlive a kill of the node.

    Args:
      bucket: its name.
      port: where it listens, at all addresses of its node.

    Attributes:
      objects: what it holds, by key.
      trouble: is asked for each request what goes wrong with it; a scenario replaces it.
      requests: how many there were.
    """

    def __init__(self, bucket: str, *, port: int = 80) -> None:
        self.bucket = bucket
        self.trouble: Callable[[Request], Trouble | None] = _no_trouble
        self.requests = 0
        self._port = port
        self._faults: list[Callable[[Request], Trouble | None]] = []
        self._stored = Bucket()
        self.objects = self._stored.objects

    async def serve(self) -> None:
        """Answer requests until cancelled."""
        await trio.serve_tcp(self._serve_connection, self._port, host="0.0.0.0")

    def call(self, method: str, target: str, *, body: bytes = b"", **headers: str) -> Answer:
        """Answer one request at once, for a scenario that looks at the data. Headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.answer(Request.of(method, target, named, body))

    def fault_kinds(self) -> dict[str, Begin]:
        """Return kinds of faults for `Simulation.fault_kinds`. Their amount is the share of requests concerned."""
        return {
            "store refuses": self._fault(Trouble(refused=True)),
            "store loses replies": self._fault(Trouble(lost=True)),
            "store is slow": self._fault(Trouble(delay_s=10.0)),
        }

    def _fault(self, trouble: Trouble) -> Begin:
        def begin(simulation: Simulation, fault: Fault) -> Callable[[], None]:
            def choose(request: Request) -> Trouble | None:
                return trouble if simulation.random.random() < fault.amount else None

            self._faults.append(choose)
            return lambda: self._faults.remove(choose)

        return begin

    def _trouble_of(self, request: Request) -> Trouble:
        for choose in (self.trouble, *self._faults):
            if found := choose(request):
                return found
        return Trouble()

    def answer(self, request: Request) -> Answer:
        """Answer a request at once."""
        if request.bucket != self.bucket:
            return Answer.of_refusal(Refused(404, "NoSuchBucket"))
        return perform(self._stored, request)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            async with stream:
                while await self._serve_request(stream, connection):
                    connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, OSError):
            pass  # the client is gone, or sends no HTTP

    async def _serve_request(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        """Answer the next request, and return whether another one may follow."""
        request = await _receive(stream, connection)
        if request is None:
            return False
        self.requests += 1
        trouble = self._trouble_of(request)
        await trio.sleep(trouble.delay_s)
        answer = Answer.of_refusal(Refused(503, "SlowDown")) if trouble.refused else self.answer(request)
        if trouble.lost:
            return False
        await stream.send_all(_encoded(connection, request, answer))
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def _no_trouble(_request: Request) -> Trouble | None:
    return None


async def _receive(stream: trio.SocketStream, connection: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(connection.send(go_on) or b"")
            connection.receive_data(await stream.receive_some(_RECEIVED_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request.of(head.method.decode(), head.target.decode(), headers, bytes(body))
        else:
            return None


def _encoded(connection: h11.Connection, request: Request, answer: Answer) -> bytes:
    headers = {
        "content-length": str(len(answer.body)),
        **answer.headers,
        "date": format_datetime(datetime.now(UTC), usegmt=True),
        "x-amz-request-id": "simulated",
    }
    if answer.status in (204, 304):
        headers.pop("content-length")
    parts = [connection.send(h11.Response(status_code=answer.status, headers=list(headers.items())))]
    if answer.body and request.method != "HEAD" and answer.status not in (204, 304):
        parts.append(connection.send(h11.Data(data=answer.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)

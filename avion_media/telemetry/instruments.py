"""Every metric of the service. Names follow OpenTelemetry's conventions; attributes listed are all there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric: its kind, unit (UCUM), meaning and the attributes it may carry (all of bounded cardinality)."""

    name: str
    kind: Literal["counter", "updown", "histogram", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RPC_DURATION = Instrument(
    "rpc.server.call.duration",
    "histogram",
    "s",
    "Duration of gRPC calls as the server sees them",
    ("rpc.method", "rpc.response.status_code"),
    _SECONDS,
)
HTTP_DURATION = Instrument(
    "http.server.request.duration",
    "histogram",
    "s",
    "Duration of origin requests until their headers are known",
    ("http.route", "http.request.method", "http.response.status_code"),
    _SECONDS,
)
HTTP_SENT = Instrument("avion.origin.sent", "counter", "By", "Body bytes sent by the origin", ("http.route",))
TASK_DURATION = Instrument(
    "messaging.process.duration",
    "histogram",
    "s",
    "Duration of one attempt at a task",
    ("messaging.destination.name", "outcome", "reason"),
    _SECONDS,
)
THUMBNAILS = Instrument("avion.thumbnails", "counter", "{thumbnail}", "Thumbnails written", ("format",))
REMOTE_FETCHES = Instrument("avion.remote.fetches", "counter", "{fetch}", "Fetches of remote media", ("outcome",))
CAGE_CPU = Instrument(
    "avion.cage.cpu", "histogram", "s", "CPU seconds used by one confined process", ("job", "outcome"), _SECONDS
)
EVENTS_MALFORMED = Instrument(
    "avion.events.malformed", "counter", "{event}", "drop_deleted events that could not be read"
)
SUPERVISION = Instrument(
    "avion.supervision.transitions", "counter", "{transition}", "Restarts and failures in the tree", ("path", "event")
)
PHASE = Instrument("avion.phase", "gauge", "1", "1 for the present phase of the process", ("phase",))

INSTRUMENTS: tuple[Instrument, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Instrument)
)

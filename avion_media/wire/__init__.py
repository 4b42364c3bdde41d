"""Code generated from ``proto/``; written by ``ops/generate-proto``, never by hand."""

import h2.events

# purerpc 0.8.0 names an event of h2 3 that h2 4.1 renamed; to be removed with a purerpc that supports h2 4.
h2.events.PingAcknowledged = h2.events.PingAckReceived  # type: ignore[attr-defined]

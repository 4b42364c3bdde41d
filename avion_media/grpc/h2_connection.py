"""h2, set up for a server of gRPC."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

from avion_media.grpc.frames import STREAM_WINDOW
from avion_media.grpc.hpack_shortcuts import MemoDecoder, StatelessEncoder
from avion_media.grpc.limits import GrpcLimits

_CONNECTION_WINDOW = 1 << 20
# Clients learn our limit of streams only from the first SETTINGS. h2 would end the connection of one that was faster.
_STREAMS_BEFORE_SETTINGS = 200

# h2 4.4 makes a text of each frame that it receives, for a log that it drops: 7 of some 130 µs of protocol for a call.
Frame.__repr__ = object.__repr__  # type: ignore[method-assign]


class _Connection(H2Connection):
    """Remembers how the last calls ended, not the last 65 536: 6 MB for each connection that lives long."""

    MAX_CLOSED_STREAMS = 1024


def open_h2(limits: GrpcLimits) -> tuple[H2Connection, MemoDecoder]:
    """Return a connection whose first frames wait to be sent, and its decoder of header blocks."""
    # Headers are checked in `wire_format`, once per distinct block; what we send is ours and needs no check.
    config = H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = _Connection(config)
    decoder = connection.decoder = MemoDecoder(limits.max_header_list_bytes)
    connection.encoder = StatelessEncoder()
    settings = {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    }
    connection.local_settings = Settings(client=False, initial_values=settings)
    connection.initiate_connection()
    # From here on h2 tolerates more than was announced: `Protocol` refuses the surplus, one by one.
    settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.max_streams + _STREAMS_BEFORE_SETTINGS
    connection.local_settings = Settings(client=False, initial_values=settings)
    connection.increment_flow_control_window(_CONNECTION_WINDOW - STREAM_WINDOW)
    return connection, decoder

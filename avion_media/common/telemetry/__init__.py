"""Telemetry behind one small interface: spans, metrics and logs, with a default that does nothing.

Code above says *what happened* (`count`, `record`, `span`); which SDK carries it is decided once, in
`service.open_runtime`.
Every instrument is declared in `instruments`, so the list of metrics is one table that can be checked.
"""

from avion_media.common.telemetry.api import NO_SPAN, NO_TELEMETRY, Span, Telemetry
from avion_media.common.telemetry.logs import OutageLog, bind_path, configure_logging, get_logger, silence_logging

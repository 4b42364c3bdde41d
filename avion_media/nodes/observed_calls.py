"""A span and a measurement around each gRPC call."""

from __future__ import annotations

from collections.abc import Container
from contextlib import AbstractContextManager
from types import TracebackType

from avion_media.common.telemetry import NO_SPAN, Span, Telemetry, instruments
from avion_media.common.telemetry.attributes import RPC_FAULTS
from trio_grpc import CallContext

_OTHER = "_OTHER"
_TRACED = "/avion."  # not the health checks of kubelets and balancers, of which each would be a trace


class ObservedCall(AbstractContextManager[None]):
    """Entered in the call's task before its handler, left once its code is known.

    ``methods`` are the paths that are served: what else a client asks for is counted, but not named.
    """

    __slots__ = ("_block", "_call", "_method", "_span", "_telemetry")

    def __init__(self, telemetry: Telemetry, methods: Container[str], call: CallContext) -> None:
        self._telemetry = telemetry
        self._call = call
        self._method = call.method[1:] if call.method in methods else _OTHER
        self._block: AbstractContextManager[Span] | None = None
        self._span: Span = NO_SPAN

    def __enter__(self) -> None:
        if self._call.method.startswith(_TRACED) and self._method is not _OTHER:
            parent = self._call.metadata.get("traceparent", "")
            self._block = self._telemetry.span(
                self._method, kind="server", parent=str(parent), rpc__system__name="grpc", rpc__method=self._method
            )
            self._span = self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code = self._call.code
        fault = code.name if code.name in RPC_FAULTS else ""
        if self._block is not None:
            self._span.set(rpc__response__status_code=code.name)
            if fault:
                self._span.fail(fault)
            self._block.__exit__(kind, error, traceback)
        self._telemetry.record(
            instruments.RPC_DURATION,
            self._call.duration_s,
            rpc__method=self._method,
            rpc__response__status_code=code.name,
            error__type=fault,
        )

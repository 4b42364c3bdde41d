"""grpc.health.v1, for load balancers and kubelets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from trio_grpc.context import CallContext
from trio_grpc.status import Code, RpcError
from trio_grpc.wire.grpc.health.v1 import health_pb2 as wire
from trio_grpc.wire.grpc.health.v1.health_grpc import HealthServicer

_MAX_NAME = 256  # longer names cannot be ours


class HealthService(HealthServicer):  # type: ignore[misc] # generated code is untyped
    """The states of the server (the empty name) and of its services. All begin as not serving."""

    def __init__(self) -> None:
        self._statuses: dict[str, wire.HealthCheckResponse.ServingStatus] = {"": wire.HealthCheckResponse.NOT_SERVING}
        self._watchers = trio.lowlevel.ParkingLot()
        self._shut_down = False

    def set_serving(self, service: str = "", *, is_serving: bool = True) -> None:
        """Mark this service, or the whole server, as serving or not."""
        status = wire.HealthCheckResponse.SERVING if is_serving else wire.HealthCheckResponse.NOT_SERVING
        if not self._shut_down and self._statuses.get(service) != status:
            self._statuses[service] = status
            self._watchers.unpark_all()

    def shut_down(self) -> None:
        """Mark everything as not serving, permanently."""
        for service in self._statuses:
            self.set_serving(service, is_serving=False)
        self._shut_down = True

    async def Check(self, request: wire.HealthCheckRequest, context: CallContext) -> wire.HealthCheckResponse:
        """Return the present state; NOT_FOUND for a service that was never set."""
        status = self._statuses.get(request.service)
        if status is None:
            raise RpcError(Code.NOT_FOUND, "unknown service")
        return wire.HealthCheckResponse(status=status)

    async def Watch(
        self, request: wire.HealthCheckRequest, context: CallContext
    ) -> AsyncIterator[wire.HealthCheckResponse]:
        """Yield the present state and each change; SERVICE_UNKNOWN until it is set. Ends only by a cancel."""
        if len(request.service) > _MAX_NAME:
            raise RpcError(Code.INVALID_ARGUMENT, "the name is too long")
        sent = None
        while True:
            status = self._statuses.get(request.service, wire.HealthCheckResponse.SERVICE_UNKNOWN)
            if status == sent:
                await self._watchers.park()
            else:
                yield wire.HealthCheckResponse(status=status)
                sent = status

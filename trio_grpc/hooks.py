"""Hooks of the application in the transport."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from trio_grpc.context import CallContext
from trio_grpc.status import Code, RpcError

_log = logging.getLogger("trio_grpc")

Observe = Callable[[CallContext], AbstractContextManager[object]]
Around = Callable[[CallContext], AbstractAsyncContextManager[object]]
_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an application adds to every call. Errors of the first three are logged, and have no other effect."""

    map_exception: Callable[[Exception], RpcError | None] | None = None
    """Returns the error for the client; for other exceptions None: they become INTERNAL with an error id."""
    on_error: Callable[[str, str, Exception], None] | None = None
    """Gets the error id, the method and the exception of those."""
    observe: Observe | None = None
    """Gives a context manager that is entered in the call's task before the handler, and left when `CallContext.code`
    is known. Refused calls pass through it too."""
    authorise: Callable[[CallContext], None] | None = None
    """Runs at the start of every call, health and reflection included, before anything else of it is looked at. It
    raises the `RpcError` for a call that is not allowed, and can set `CallContext.caller`. After a change of
    credentials, `GrpcServer.authorise_again` asks it about open streams."""

    around: Around | None = None
    """Gives an asynchronous context manager that is entered before each handler of the application's own services, and
    left after its last response. Code before ``yield`` can refuse the call (`RpcError`) or prepare what the handler
    needs; it sees the handler's exceptions and may raise others. The call's deadline applies to it."""

    def refusal_of(self, call: CallContext) -> RpcError | None:
        """Return why this call is refused, or None. If the check itself fails, every call is refused."""
        if self.authorise is None:
            return None
        try:
            self.authorise(call)
        except RpcError as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 - code that is not ours
            return RpcError(Code.INTERNAL, f"internal error {self.report(call.method, error)}")
        return None

    def observed(self, call: CallContext) -> AbstractContextManager[object]:
        """Return the context manager for a call. It neither raises nor suppresses exceptions."""
        return _NOTHING if self.observe is None else _Observed(self.observe, call)

    def error_for(self, exception: Exception, method: str) -> RpcError:
        """Return the error that the client gets for a handler's exception."""
        cause = exception
        while isinstance(cause, ExceptionGroup) and len(cause.exceptions) == 1:  # as a handler's nursery raises it
            cause = cause.exceptions[0]
        if isinstance(cause, RpcError):
            return cause
        try:
            mapped = None if self.map_exception is None else self.map_exception(cause)
        except Exception:  # noqa: BLE001 - code that is not ours; the call is answered INTERNAL
            _log.exception("map_exception failed")
            mapped = None
        if mapped is not None:
            return mapped
        if isinstance(cause, NotImplementedError):
            return RpcError(Code.UNIMPLEMENTED, f"{method} is not implemented")
        return RpcError(Code.INTERNAL, f"internal error {self.report(method, exception)}")

    def report(self, method: str, exception: Exception) -> str:
        """Pass an unexpected exception to ``on_error``, with a new error id, and return the id."""
        error_id = secrets.token_hex(8)
        if self.on_error is None:
            _log.error("%s failed (error %s)", method, error_id, exc_info=exception)
            return error_id
        try:
            self.on_error(error_id, method, exception)
        except Exception:  # noqa: BLE001 - code that is not ours, and the last place to report to
            _log.exception("on_error failed for error %s", error_id)
        return error_id


@dataclass(slots=True)
class _Observed(AbstractContextManager[None]):
    """Entering and leaving the application's context manager, whatever it does."""

    observe: Observe
    call: CallContext
    inner: AbstractContextManager[object] | None = None  # once it is entered

    def __enter__(self) -> None:
        try:
            inner = self.observe(self.call)
            inner.__enter__()
            self.inner = inner
        except Exception:  # noqa: BLE001 - code that is not ours: the call goes on unobserved
            _log.exception("observe failed at the start of %s", self.call.method)

    def __exit__(self, *error: Any) -> None:
        if self.inner is None:
            return
        try:
            self.inner.__exit__(*error)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("observe failed at the end of %s", self.call.method)

"""Records every call that changes something: the table of all methods, and what stands in front of their handlers.

Calls that do what a moderator does have a row of `avion_media.operations.table`, and are recorded like all actions of
people. Deletions and the like are recorded with their ids; what a platform does all day is only counted, which costs
each call two increments in a dictionary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import trio

from avion_media.common.credentials import Person
from avion_media.operations.operation import REFUSALS, Order, Outcome
from avion_media.operations.table import Operations
from avion_media.process.audit import OK
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import actor_of
from trio_grpc import CallContext, RpcError, Service

Handler = Callable[[Any, CallContext], Awaitable[Any]]


class Kept(Enum):
    """What the audit log keeps of a call."""

    ACTION = "action"  # a record before the response, as of all actions of people
    IDS = "ids"  # a record with the ids, within a second
    COUNT = "count"  # a count for each caller, audience and minute


def _ids(request: Any, _response: Any) -> Sequence[str]:
    return request.media_ids  # type: ignore[no-any-return]


def _id(request: Any, _response: Any) -> Sequence[str]:
    return [request.media_id]


def _owned(request: Any, response: Any) -> Sequence[str]:
    spared = frozenset(response.not_owned) if response is not None else ()
    return [each for each in request.media_ids if each not in spared]


def _restored(request: Any, response: Any) -> Sequence[str]:
    return response.restored if response is not None else request.media_ids  # type: ignore[no-any-return]


def _host(request: Any, _response: Any) -> Sequence[str]:
    return [request.host]


@dataclass(frozen=True, slots=True)
class Method:
    """What a method changes: the name of the action, what is kept, and the targets by request and response, which is
    None after an error. ``note`` is a field of the request that is kept, too."""

    action: str
    kept: Kept
    targets: Callable[[Any, Any], Sequence[str]] = _id
    note: str = ""


def _one(_request: Any, _response: Any) -> Sequence[str]:
    return ("",)


METHODS: Final[dict[str, Method | None]] = {
    "RequestMediaUpload": Method("request_upload", Kept.COUNT, _one),
    "SignUploadParts": Method("sign_parts", Kept.COUNT, _one),
    "CompleteMediaUpload": Method("complete_upload", Kept.COUNT, _one),
    "CacheRemoteMedia": Method("cache", Kept.COUNT, _one),
    "SignMediaUrls": Method("sign", Kept.COUNT, _ids, "audience"),
    "AbortMediaUpload": Method("abort_upload", Kept.IDS),
    "RevokeMediaUrls": Method("revoke", Kept.IDS, _ids, "audience"),
    "DeleteMedia": Method("delete", Kept.IDS, _owned, "owner"),
    "UndeleteMedia": Method("undelete", Kept.IDS, _restored),
    "BlockMedia": Method("block", Kept.ACTION, _id, "note"),
    "UnblockMedia": Method("unblock", Kept.ACTION),
    "BlockHost": Method("block_host", Kept.ACTION, _host, "note"),
    "UnblockHost": Method("unblock_host", Kept.ACTION, _host),
    # These change nothing:
    "GetMediaStatus": None,
    "WatchMediaStatus": None,
    "GetUsage": None,
    "ListOwnerMedia": None,
    "ListBlockedHosts": None,
    "GetCapabilities": None,
}
"""Every method. `tests/service/test_operations.py` calls each of them."""


def action_of(path: str) -> str:
    """Return the action of a path such as ``/avion.MediaService/DeleteMedia``; that of others is ``call``."""
    method = METHODS.get(path.rpartition("/")[2])
    return "call" if method is None else method.action


def recorded(service: Service, operations: Operations) -> Service:
    """Return the service with every call that changes something on record."""
    methods = {}
    for name, (handler, signature) in service.methods.items():
        method = METHODS[name]
        methods[name] = (handler if method is None else _recorded(handler, method, operations), signature)
    return Service(service.name, methods)


def code_of(error: BaseException) -> str:
    """Return the name of the status that a client gets for an error."""
    if isinstance(error, RpcError):
        return error.code.name
    mapped = map_exception(error) if isinstance(error, Exception) else None
    if mapped is None:
        return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"
    return mapped.code.name


def _recorded(handler: Handler, method: Method, operations: Operations) -> Handler:
    return (_as_action if method.kept is Kept.ACTION else _as_call)(handler, method, operations)


def _as_action(handler: Handler, method: Method, operations: Operations) -> Handler:
    async def call(request: Any, context: CallContext) -> Any:
        responses = []

        async def work() -> Outcome:
            responses.append(await handler(request, context))
            return Outcome({target: {} for target in targets})

        targets = method.targets(request, None)
        note = getattr(request, method.note) if method.note else ""
        order = Order(targets, who=Person(actor_of(context)), note=note)
        await operations.carry_out(method.action, order, work, code_of)
        return responses[0]

    return call


def _as_call(handler: Handler, method: Method, operations: Operations) -> Handler:
    log, entrance, action = operations.runtime.audit, operations.entrance, method.action
    is_counted = method.kept is Kept.COUNT

    def note_of(request: Any) -> str:
        kept = getattr(request, method.note) if method.note else ""
        return f"{method.note} {kept}" if kept else ""

    async def call(request: Any, context: CallContext) -> Any:
        response, outcome = None, OK
        try:
            response = await handler(request, context)
        except (Exception, trio.Cancelled) as error:
            outcome = code_of(error)
            raise
        finally:
            targets = method.targets(request, response)
            if outcome in REFUSALS or (is_counted and outcome != OK):
                log.refuse(entrance, actor_of(context), action, outcome, next(iter(targets), ""))
            elif is_counted:
                log.count_call(entrance, actor_of(context), action, note_of(request), len(targets))
            elif targets:  # after another error, some of them might have changed
                log.list_call(entrance, actor_of(context), action, targets, outcome, note_of(request))
        return response

    return call

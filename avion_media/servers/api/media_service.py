"""The MediaService of ``proto/avion/media.proto``. It raises errors of the domain; `errors.map_exception` maps them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from avion_media.backends.remote import NO_OWN_URLS, OwnUrls
from avion_media.common import keys
from avion_media.common.clock import now_s, utc_now
from avion_media.common.credentials import Person
from avion_media.common.errors import MediaError, Reason
from avion_media.common.ids import (
    MediaId,
    RemoteId,
    new_media_id,
    parse_media_id,
    parse_remote_id,
)
from avion_media.common.media import ATTACHMENT, owner_of, upload_metadata
from avion_media.common.tasks import CACHE_QUEUE, KIND, PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.common.wire.avion.media_grpc import MediaServiceServicer
from avion_media.items.deletion import delete, undelete
from avion_media.items.hosts import RemoteCopy
from avion_media.items.moderation import NotBlocked
from avion_media.items.owners import OwnedMedium
from avion_media.operations.operation import Facts, Order
from avion_media.operations.table import OPERATIONS
from avion_media.process.runtime import Runtime, guard_of
from avion_media.process.settings import ProcessSettings
from avion_media.servers.api.messages import (
    capabilities_of,
    host_to_wire,
    kind_name,
    part_to_wire,
    to_wire,
    visibility_of,
)
from avion_media.servers.api.resumable import (
    AlreadyCompleted,
    GrantedUpload,
    InvalidUploadId,
    NoSuchUpload,
    ResumableUploads,
)
from avion_media.servers.api.statuses import StatusResolver, UnknownMedium, Watchers
from avion_media.servers.api.validation import (
    MAX_PAGE_SIZE,
    PendingUploads,
    UploadRequest,
    bad_field,
    check_any_id,
    check_audience,
    check_delay,
    check_ground,
    check_host,
    check_media_id,
    check_media_ids,
    check_note,
    check_owner,
    check_owner_or_host,
    check_page,
    check_part_numbers,
    check_private_ids,
    check_remote_url,
    check_requested_at,
    check_ttl,
    check_upload_request,
    parse_or_unreadable,
)
from trio_grpc import CallContext


class NothingUploaded(MediaError):
    """CompleteMediaUpload was called, but no file has been uploaded."""


class AlreadyDeleted(MediaError):
    """The media item was deleted."""


class HostDenied(MediaError):
    """The operator's lists deny this remote host."""


class HostBlocked(MediaError):
    """Moderators have blocked this remote host."""


def actor_of(context: CallContext) -> str:
    """Return the caller; without authentication the address."""
    return context.caller or f"anyone at {context.peer.address.rpartition(':')[0] or 'the console'}"


class MediaService(MediaServiceServicer):  # type: ignore[misc] # generated code has no types
    """The handlers. One object serves all calls. `recorded` stands in front of them."""

    def __init__(self, runtime: Runtime, own_urls: OwnUrls = NO_OWN_URLS) -> None:
        self._runtime = runtime
        self._own_urls = own_urls
        self._config: ProcessSettings = runtime.config
        self._enabled = runtime.config.enabled_formats()
        self._guard = guard_of(runtime.config.remote)
        upload = runtime.config.upload
        self._statuses = StatusResolver(runtime.replay, runtime.moderation.status, upload)
        self.watchers = Watchers()
        self._pending = PendingUploads(upload.max_pending, upload.url_ttl)
        self._resumable = ResumableUploads(runtime.store, upload)
        self._items = runtime.items
        self._hosts = runtime.moderation.hosts

    async def RequestMediaUpload(
        self, request: wire.RequestMediaUploadRequest, context: CallContext
    ) -> wire.RequestMediaUploadResponse:
        """Check the request, make an id, and sign a PUT, without any I/O. An upload in parts begins with a request to
        the store."""
        upload = check_upload_request(
            request.filename,
            request.content_type,
            request.size,
            request.sha256,
            request.owner,
            request.credentials,
            request.visibility,
            multipart=request.multipart,
            limits=self._config.upload,
            enabled=self._enabled,
        )
        now = now_s()
        media_id = new_media_id(upload.format, int(now * 1000), private=upload.private)
        if request.multipart:
            return await self._begin_multipart(media_id, upload, context.caller)
        signed = self._runtime.store.get().uploads.put(
            keys.incoming(media_id),
            content_type=upload.content_type,
            size_bytes=upload.size_bytes,
            sha256_digest=upload.sha256 or None,
            expires_s=int(self._config.upload.url_ttl),
            now=datetime.fromtimestamp(now, UTC),
            metadata=upload_metadata(upload.owner, keep_credentials=upload.keep_credentials),
        )
        self._pending.admit(context.caller, now)  # if the URL could not be signed, the upload is not pending
        self._runtime.telemetry.attach_to_trace_of(media_id.text, begins=True)
        response = wire.RequestMediaUploadResponse(
            media_id=media_id.text,
            upload_url=signed.url,
            upload_headers=signed.headers,
            visibility=visibility_of(media_id.text),
        )
        response.expires_at.seconds = int(signed.expires_at.timestamp())
        return response

    async def _begin_multipart(
        self, media_id: MediaId, upload: UploadRequest, caller: str
    ) -> wire.RequestMediaUploadResponse:
        self._resumable.require()
        self._pending.admit(caller, media_id.created.timestamp())
        self._runtime.telemetry.attach_to_trace_of(media_id.text, begins=True)
        upload_id, part_bytes = await self._resumable.begin(media_id, upload)
        response = wire.RequestMediaUploadResponse(
            media_id=media_id.text,
            upload_id=upload_id,
            part_size=part_bytes,
            visibility=visibility_of(media_id.text),
        )
        response.expires_at.seconds = int(self._resumable.expires_at(media_id).timestamp())
        return response

    async def SignUploadParts(
        self, request: wire.SignUploadPartsRequest, context: CallContext
    ) -> wire.SignUploadPartsResponse:
        """Return the stored parts of an upload, and URLs for the rest."""
        media_id = check_media_id(request.media_id)
        self._runtime.telemetry.attach_to_trace_of(media_id.text)
        upload = await self._granted(media_id, request.upload_id)
        check_part_numbers(request.numbers, upload.plan.count)
        parts, expires_at = await self._resumable.sign(media_id, upload, request.numbers)
        response = wire.SignUploadPartsResponse(parts=map(part_to_wire, parts))
        response.expires_at.seconds = int(expires_at.timestamp())
        return response

    async def AbortMediaUpload(
        self, request: wire.AbortMediaUploadRequest, context: CallContext
    ) -> wire.AbortMediaUploadResponse:
        """Remove an upload that was not completed. It can be called twice."""
        media_id = check_media_id(request.media_id)
        self._runtime.telemetry.attach_to_trace_of(media_id.text)
        upload = await self._granted(media_id, request.upload_id)
        known = await self._runtime.items.statuses.get(media_id.text)
        if known is not None:
            raise AlreadyCompleted(media_id.text)
        if await self._resumable.abort(media_id, upload):
            self._pending.completed(context.caller, media_id.created.timestamp())
        return wire.AbortMediaUploadResponse()

    async def _granted(self, media_id: MediaId, upload_id: str) -> GrantedUpload:
        if not upload_id:
            raise bad_field("upload_id", "is required", "UPLOAD_ID_REQUIRED")
        try:
            return await self._resumable.open(media_id, upload_id)
        except InvalidUploadId as error:
            raise bad_field("upload_id", str(error), "UPLOAD_ID_INVALID") from None

    async def GetCapabilities(self, request: wire.GetCapabilitiesRequest, context: CallContext) -> wire.Capabilities:
        """Return what clients may upload."""
        return capabilities_of(self._runtime)

    async def GetUsage(self, request: wire.GetUsageRequest, context: CallContext) -> wire.GetUsageResponse:
        """Return number and bytes of an owner's media, or of a host's copies."""
        host = check_owner_or_host(request.owner, request.host)
        usage = await (self._items.hosts.usage(host) if host else self._items.owners.usage(request.owner))
        return wire.GetUsageResponse(bytes=usage.size_bytes, count=usage.count)

    async def ListOwnerMedia(
        self, request: wire.ListOwnerMediaRequest, context: CallContext
    ) -> wire.ListOwnerMediaResponse:
        """Return one page of an owner's media, the oldest first, or of a host's copies, in the order of their ids."""
        host = check_owner_or_host(request.owner, request.host)
        pages: AsyncIterator[Sequence[OwnedMedium | RemoteCopy]]
        if host:
            page_size, copy = check_page(request.page_size, request.page_token, parse_remote_id)
            pages = self._items.hosts.copies(host, copy, page_size=min(page_size + 1, MAX_PAGE_SIZE))
        else:
            page_size, after = check_page(request.page_size, request.page_token, parse_media_id)
            pages = self._items.owners.media(request.owner, after, page_size=min(page_size + 1, MAX_PAGE_SIZE))
        response = wire.ListOwnerMediaResponse()
        async for page in pages:
            for each in page:
                if len(response.media) == page_size:  # there is one more
                    response.next_page_token = response.media[-1].media_id
                    return response
                media_id = str(each.media_id)
                response.media.add(media_id=media_id, bytes=each.size_bytes, visibility=visibility_of(media_id))
        return response

    async def CompleteMediaUpload(
        self, request: wire.CompleteMediaUploadRequest, context: CallContext
    ) -> wire.CompleteMediaUploadResponse:
        """Check the status, make one HEAD request, and queue exactly one task. Parts are joined into one object
        first."""
        media_id = check_media_id(request.media_id)
        self._runtime.telemetry.attach_to_trace_of(media_id.text)
        upload = await self._granted(media_id, request.upload_id) if request.upload_id else None
        stored = self._runtime.items.statuses
        known = await stored.get(media_id.text)
        if known is not None and known.state is State.DELETED:
            raise AlreadyDeleted(media_id.text)
        if known is None and upload is not None:
            await self._resumable.join(media_id, upload)
        if known is None or not (known.state.final or known.reason is Reason.HELD):
            await self._begin_processing(media_id, upload, context.caller)
        return wire.CompleteMediaUploadResponse()

    async def _begin_processing(self, media_id: MediaId, upload: GrantedUpload | None, caller: str) -> None:
        uploaded = await self._runtime.items.upload(media_id)
        if uploaded is None:
            nothing = NothingUploaded(media_id.text) if upload is None else NoSuchUpload(media_id.text)
            await self._require_accepted(media_id, nothing)
            return
        # The task first: if writing the status fails, the task still runs, and writes it.
        task_id = str(uuid.uuid4())
        queue = self._runtime.items.queues[PROCESSING_QUEUE]
        fields = processing_fields(media_id.text, owner_of(uploaded.metadata))
        queued = await queue.enqueue(fields, task_id=task_id, dedup_key=media_id.text, tenant=caller)
        if not queued:  # the sweep is removing it
            await self._require_accepted(media_id, UnknownMedium(media_id.text))
            return
        if queued == task_id:
            self._pending.completed(caller, media_id.created.timestamp())
        await self._note_processing(media_id.text)

    async def _require_accepted(self, media_id: MediaId, refusal: MediaError) -> None:
        """Raise the refusal if the upload was never completed. Otherwise it was processed long ago."""
        status = await self._statuses.resolve(media_id)
        if status.state is State.PENDING_UPLOAD:
            raise refusal

    async def _note_processing(self, name: str) -> None:
        status = Status(name, State.PROCESSING)
        await self._runtime.items.statuses.put(status, ttl_s=self._config.tasks.accepted_life_s)

    async def CacheRemoteMedia(
        self, request: wire.CacheRemoteMediaRequest, context: CallContext
    ) -> wire.CacheRemoteMediaResponse:
        """Return READY if the cached copy is fresh. Otherwise return the task that fetches it, which is the same for
        the same URL.

        A URL that failed recently is not fetched again. If there is an older copy, it is READY; if not, the response
        has the task that failed, and the status has the reason.
        """
        url = check_remote_url(request.remote_url, self._own_urls)
        if self._guard.host_denied(url.host):
            raise HostDenied(url.host)
        await self._hosts.refresh()
        if self._hosts.is_blocked(url.host):
            raise HostBlocked(url.host)
        remote_id = self._items.remote_ids.get().of(str(url))
        remote_states = self._runtime.items.remote_states
        state = await remote_states.load(remote_id)
        if state.deleted:
            raise AlreadyDeleted(remote_id.text)
        kind = self._config.remote.kind(kind_name(request.kind))
        use = state.used(utc_now(), kind.ttl_s, kind.max_bytes)
        failure = state.failure if state.failure is not None and state.failure.stops(use.max_bytes) else None
        if await self._has_copy(remote_id, use.ttl_s, stale_too=state.validated or failure is not None):
            await remote_states.mark_used(remote_id, use)
            return wire.CacheRemoteMediaResponse(status="ready", media_id=remote_id.text)
        if failure is not None:
            return wire.CacheRemoteMediaResponse(status="pending", task_id=failure.task_id, media_id=remote_id.text)
        if state.failure is not None:  # of a request with a narrower limit
            await remote_states.forget_failure(remote_id)
        await remote_states.reset_failure(remote_id)
        await remote_states.mark_used(remote_id, use)  # first, so that a fetch of a narrower request sees it
        fields, dedup_key = {"remote_url": str(url)}, remote_id.text
        if kind.name != ATTACHMENT:
            fields, dedup_key = fields | {KIND: kind.name}, f"{remote_id}:{kind.max_bytes}"
        task_id = await self._runtime.items.queues[CACHE_QUEUE].enqueue(fields, dedup_key=dedup_key)
        await self._note_processing(remote_id.text)
        return wire.CacheRemoteMediaResponse(status="pending", task_id=task_id, media_id=remote_id.text)

    async def _has_copy(self, remote_id: RemoteId, ttl_s: float, *, stale_too: bool) -> bool:
        info = await self._runtime.items.original(remote_id)
        if info is None:
            return False
        return stale_too or (utc_now() - info.last_modified).total_seconds() < ttl_s

    async def DeleteMedia(self, request: wire.DeleteMediaRequest, context: CallContext) -> wire.DeleteMediaResponse:
        """Delete media, also unknown ones, whose upload may be on its way. Only those of an owner, if there is one."""
        media_ids = check_media_ids(request.media_ids)
        delay_s = check_delay(request.delay if request.HasField("delay") else None, self._config.delete.delay)
        if request.owner:
            check_owner(request.owner)
        not_owned = await delete(self._runtime.replay, media_ids, delay_s, request.owner)
        return wire.DeleteMediaResponse(not_owned=not_owned)

    async def UndeleteMedia(
        self, request: wire.UndeleteMediaRequest, context: CallContext
    ) -> wire.UndeleteMediaResponse:
        """Undo deletions, until their objects are removed."""
        any_ids = [parse_or_unreadable(each) for each in check_media_ids(request.media_ids)]
        response = wire.UndeleteMediaResponse()
        for media_id, problem in (await undelete(self._runtime.replay, any_ids)).items():
            getattr(response, "restored" if problem is None else problem.obstacle).append(media_id)
        return response

    async def SignMediaUrls(
        self, request: wire.SignMediaUrlsRequest, context: CallContext
    ) -> wire.SignMediaUrlsResponse:
        """Return tokens for private media, whether they exist or not. Deleted media have none."""
        media_ids = check_private_ids(request.media_ids)
        check_audience(request.audience)
        private = self._config.private
        ttl_s = check_ttl(request.ttl if request.HasField("ttl") else None, private.ttl, private.max_ttl)
        tokens, expires_at = await self._runtime.private.sign(media_ids, ttl_s, request.audience)
        response = wire.SignMediaUrlsResponse(tokens=tokens)
        response.expires_at.seconds = int(expires_at.timestamp())
        return response

    async def RevokeMediaUrls(
        self, request: wire.RevokeMediaUrlsRequest, context: CallContext
    ) -> wire.RevokeMediaUrlsResponse:
        """Refuse the tokens of private media that were signed before: those of an audience, or all."""
        media_ids = check_private_ids(request.media_ids)
        check_audience(request.audience)
        await self._runtime.private.revoke(media_ids, request.audience)
        return wire.RevokeMediaUrlsResponse()

    async def BlockMedia(self, request: wire.BlockMediaRequest, context: CallContext) -> wire.BlockMediaResponse:
        """Block a known media item and its copies. An interrupted call is completed later."""
        any_id = check_any_id(request.media_id)
        check_note(request.note)
        details = {
            "note": request.note,
            "discard_evidence": request.discard_evidence,
            "requested_at": check_requested_at(request.requested_at if request.HasField("requested_at") else None),
            "ground": check_ground(request.ground),
            "automated": request.automated,
        }
        await self._statuses.resolve(any_id)
        facts = await self._operate("block", str(any_id), context, **details)
        return wire.BlockMediaResponse(copies=facts["copies"])

    async def UnblockMedia(self, request: wire.UnblockMediaRequest, context: CallContext) -> wire.UnblockMediaResponse:
        """Lift a block, and the blocks of its copies."""
        any_id = check_any_id(request.media_id)
        try:
            await self._operate("unblock", str(any_id), context)
        except NotBlocked:
            await self._statuses.resolve(any_id)  # raises `UnknownMedium`
            raise
        return wire.UnblockMediaResponse()

    async def BlockHost(self, request: wire.BlockHostRequest, context: CallContext) -> wire.BlockHostResponse:
        """Block a remote host, and count its copies."""
        host = check_host(request.host, exact=request.exact)
        check_note(request.note)
        facts = await self._operate("block_host", host.name, context, note=request.note, purge=request.purge)
        return wire.BlockHostResponse(found=facts["found"])

    async def UnblockHost(self, request: wire.UnblockHostRequest, context: CallContext) -> wire.UnblockHostResponse:
        """Remove the block of a remote host."""
        await self._operate("unblock_host", check_host(request.host).host, context)
        return wire.UnblockHostResponse()

    async def ListBlockedHosts(
        self, request: wire.ListBlockedHostsRequest, context: CallContext
    ) -> wire.ListBlockedHostsResponse:
        """Return one page of the blocked hosts, those of the settings among them."""
        page_size, after = check_page(request.page_size, request.page_token, str)
        found, next_page = await self._hosts.list(after or "", page_size)
        return wire.ListBlockedHostsResponse(hosts=map(host_to_wire, found), next_page_token=next_page)

    async def _operate(self, action: str, target: str, context: CallContext, **details: Any) -> Facts:
        """Do what an action of people does, for the caller. Return the facts about it, or raise why it is refused.

        ``details`` are those of its `Order`. `recorded` has it on record.
        """
        order = Order([target], who=Person(actor_of(context)), **details)
        perform = OPERATIONS[action].perform
        assert perform is not None, f"{action} is done by its command only"
        outcome = await perform(self._runtime, order)
        outcome.raise_problem()
        return outcome.done[target]

    async def GetMediaStatus(self, request: wire.GetMediaStatusRequest, context: CallContext) -> wire.MediaStatus:
        """Return the present status."""
        return to_wire(await self._statuses.resolve(check_any_id(request.media_id)))

    async def WatchMediaStatus(
        self, request: wire.GetMediaStatusRequest, context: CallContext
    ) -> AsyncIterator[wire.MediaStatus]:
        """Stream each change, and end after a final state."""
        any_id = check_any_id(request.media_id)
        with self.watchers.watching(any_id.text) as notifier:
            last: Status | None = None
            while True:
                status = await self._statuses.resolve(any_id)
                if status != last:
                    yield to_wire(status)
                    last = status
                if status.state.final:
                    return
                await notifier.wait(status, self._statuses.valid_for_s(any_id, status))

"""The status store: the status of each media item, on Redis.

The object store is the source of truth; this is faster to read and to change. Every change is a compare-and-set on the
server: a deleted media item gets no status, and READY stays until it is deleted, forgotten or expired.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote

from avion_media.backends.redis import Argument, Channels, Redis, load_script
from avion_media.common import keys
from avion_media.common.errors import SERVICE_FAULTS, Reason
from avion_media.common.formats import BY_NAME
from avion_media.common.media import CredentialsState, MediaFacts, parse_size_names
from avion_media.common.records import CustomRecord
from avion_media.common.tasks import State, Status

_CHANGES = "media_status:"
"""Channel, with a media id: the status of this media item changed. Only replicas with a watcher subscribe to it."""

_READ_STATUSES = load_script("avion_media.items.state", "read_statuses")
_PUT_STATUS = load_script("avion_media.items.state", "put_status")
_FORGET_STATUS = load_script("avion_media.items.state", "forget_status")
_CHUNK = 500  # statuses that one script reads
ANY_FAILURE = "*"
READY_TTL_S = 3600.0  # the object store has it as well
FAILED_TTL_S = 30 * 86_400.0  # only Redis has it
_FACTS = 15  # fields of a status with facts


def key_of(kind: str, media_id: str) -> str:
    """Return a key of one media item.

    All keys of one media item are in one cluster slot. So are those of all ids with the same last two characters (about
    a thousandth of all media items), so that scripts can work on batches.
    """
    return f"{kind}:{{{media_id[-2:]}}}{media_id}"


def status_key(media_id: str) -> str:
    """Return the key of the status of a media item (a string)."""
    return key_of("media_status", media_id)


def deletion_key(media_id: str) -> str:
    """Return the key of the record of its deletion (a hash)."""
    return key_of("media_deletion", media_id)


_CODES = {state: str(state)[0] for state in State if state is not State.PENDING_UPLOAD} | {State.PENDING_UPLOAD: "U"}
_STATES = {code: state for state, code in _CODES.items()}
_REASONS = {str(reason): reason for reason in Reason}


def status_channel(media_id: str) -> str:
    """Return the channel of a media item's changes of status."""
    return f"{_CHANGES}{media_id}"


def status_channels(changed: Callable[[str], None]) -> Channels:
    """Return channels of statuses, none at first. ``changed`` is called with the id of a media item whose status has
    changed, in any process, or may have changed before its subscription began."""

    def notify(channel: str) -> None:
        changed(channel.removeprefix(_CHANGES))

    return Channels(heard=lambda channel, _message: notify(channel), subscribed=notify)


class StatusStore:
    """Statuses on Redis. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis.state

    async def get(self, media_id: str) -> Status | None:
        """Return the status of a media item: DELETED as soon as its deletion is recorded; None if there is none."""
        return (await self.get_many([media_id]))[media_id]

    async def get_many(self, media_ids: Sequence[str], *, despite_deletion: bool = False) -> dict[str, Status | None]:
        """As `get`, for several media items. The statuses may be read at different moments.

        ``despite_deletion``: return for a deleted media item the status that an undelete would restore.
        """
        found: dict[str, Status | None] = {}
        names = {status_key(media_id): media_id for media_id in media_ids}
        for group in await self._redis.grouped(list(names), _CHUNK):
            both = [key for each in group for key in (each, deletion_key(names[each]))]
            replies = await self._redis.run(_READ_STATUSES, both)
            for key, (written, state) in zip(group, replies, strict=True):
                found[names[key]] = effective_status(
                    names[key], written, is_deleted=not despite_deletion and _is_deleted(state.decode())
                )
        return found

    async def put(self, status: Status, ttl_s: float, *, over: Reason | str | None = ANY_FAILURE) -> bool:
        """Write the status of a media item for ``ttl_s``. Return whether it was stored.

        It is not stored if the media item is deleted, or is READY and would become anything else. FAILED becomes
        neither PROCESSING nor FAILED for another reason, except after failures of this service. A held media item
        becomes PROCESSING without a reason only if HELD is ``over``. READY replaces FAILED only if the failure is
        ``over``; None: it replaces no failure; `ANY_FAILURE`: it replaces all but a block.
        """
        both = (status_key(status.media_id), deletion_key(status.media_id))
        args: tuple[Argument, ...] = (
            status.media_id,
            _write(status),
            round(ttl_s * 1000),
            str(over or ""),
            *sorted(SERVICE_FAULTS),
        )
        return bool(await self._redis.run(_PUT_STATUS, both, args))

    async def forget(self, media_id: str) -> bool:
        """Remove the status, so that the object store is read again. Return whether there was one. A deletion stays."""
        return bool(await self._redis.run(_FORGET_STATUS, (status_key(media_id),), (media_id,)))

    async def deletion_state(self, media_id: str) -> str:
        """Return the state of the deletion record (`avion_media.items.deletion`); empty if there is none."""
        return (await self._redis.execute("HGET", deletion_key(media_id), "state") or b"").decode()

    async def is_deleted(self, media_id: str) -> bool:
        """Return whether a media item is deleted."""
        return _is_deleted(await self.deletion_state(media_id))


def _is_deleted(state: str) -> bool:
    return state not in ("", "undeleted")


def _write(status: Status) -> str:
    """Return the status as one line: the first letter of the state, then its fields."""
    code = _CODES[status.state]
    if status.state is State.FAILED:
        return f"{code} {status.reason or ''} {int(status.retryable)}"
    facts = status.facts
    if facts is None:
        return code if status.reason is None else f"{code} {status.reason}"
    sha256 = urlsafe_b64encode(bytes.fromhex(facts.sha256)).decode().rstrip("=")
    numbers = f"{facts.size_bytes} {facts.width} {facts.height} {int(facts.animated)} {facts.duration_s:.3f}"
    names = ",".join(facts.thumbnails)
    shown = "" if tuple(status.thumbnails) == facts.thumbnails else ",".join(status.thumbnails)
    said = f"{facts.digital_source_type} {quote(facts.claim_generator, safe='')}"
    more = f"{facts.credentials} {facts.waveform.hex()} {facts.owner} {said}"
    return f"{code} {facts.format.name} {numbers} {facts.blurhash} {sha256} {names} {shown} {more}"


def effective_status(media_id: str, written: bytes, *, is_deleted: bool) -> Status | None:
    """Return the status that applies; ``written`` is empty if none is stored."""
    if is_deleted:
        return Status(media_id, State.DELETED)
    return STATUS.read_or_skip(written, status_key(media_id)) if written else None


def _read(written: str, key: str) -> Status:
    """Return the stored status. Raises ValueError or KeyError. A reason that only a later version knows is left out."""
    media_id = key.rpartition("}")[2]
    code, *fields = written.split(" ")
    state = _STATES[code]
    if state is State.FAILED:
        reason, retryable = fields[:2]
        return Status(media_id, state, reason=_REASONS.get(reason), retryable=retryable == "1")
    if state is State.PROCESSING and 0 < len(fields) < _FACTS:
        return Status(media_id, state, reason=_REASONS.get(fields[0]))
    if not fields:
        return Status(media_id, state)
    name, size_bytes, width, height, animated, duration_s, blurhash, sha256, names, shown, *more = fields[:_FACTS]
    credentials, waveform, owner, source_type, generator = more
    facts = MediaFacts(
        BY_NAME[name],
        int(size_bytes),
        int(width),
        int(height),
        blurhash,
        urlsafe_b64decode(sha256 + "=" * (-len(sha256) % 4)).hex(),
        animated=animated == "1",
        duration_s=float(duration_s),
        thumbnails=parse_size_names(names),
        credentials=CredentialsState(credentials),
        digital_source_type=source_type,
        claim_generator=unquote(generator),
        waveform=bytes.fromhex(waveform),
        owner=owner,
    )
    thumbnails = keys.origin_paths(media_id, parse_size_names(shown or names))
    return Status(media_id, state, facts=facts, thumbnails=thumbnails)


STATUS = CustomRecord(
    "status",
    Status,
    "media_status:{<XY>}<id>",
    "calls, workers, the sweep",
    fields=["first letter of the state", "reason or facts"],
    parse=_read,
)

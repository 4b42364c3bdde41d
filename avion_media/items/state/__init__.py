"""The state of media items on Redis: statuses, what is remembered of remote media, and events."""

from avion_media.items.state.events import MediaEvents
from avion_media.items.state.remote_state import RemoteFailure, RemoteState, RemoteStateStore, RemoteUse
from avion_media.items.state.status_store import ANY_FAILURE, FAILED_TTL_S, READY_TTL_S, StatusStore

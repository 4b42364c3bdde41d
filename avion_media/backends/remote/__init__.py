"""Other servers: `guarded_fetch` with the errors of this service, and limits per host that all replicas share."""

from avion_media.backends.remote.errors import RemoteGone, ServerError
from avion_media.backends.remote.fetching import NO_OWN_URLS, Fetcher, Poster
from avion_media.backends.remote.hosts import HostLimiter, HostLimits, breaker_state
from avion_media.backends.remote.own import OwnUrls

"""How many handlers run, so that neither one peer nor calls that never end can take all that there are."""

from __future__ import annotations

from avion_media.peers import PeerCount

_STREAMS_SHARE = 0.75  # a quarter is for calls that end: health checks are answered however many only watch


class CallCount:
    """Counts the running calls of one server, in all and by peer (see `avion_media.peers`); streams apart."""

    def __init__(self, max_in_all: int, max_per_peer: int) -> None:
        self._calls = PeerCount(max_in_all, max_per_peer)
        self._streams = PeerCount(
            max(int(_STREAMS_SHARE * max_in_all), 1), max(int(_STREAMS_SHARE * min(max_per_peer, max_in_all)), 1)
        )

    @property
    def total(self) -> int:
        """Calls that run."""
        return self._calls.total

    def begin(self, peer: str, *, is_stream: bool) -> bool:
        """Count a call, unless it is beyond a bound. Each that is counted must `end`."""
        if not self._calls.has_room(peer) or (is_stream and not self._streams.has_room(peer)):
            return False
        self._calls.add(peer)
        if is_stream:
            self._streams.add(peer)
        return True

    def end(self, peer: str, *, is_stream: bool) -> None:
        """A call that was counted is over."""
        self._calls.remove(peer)
        if is_stream:
            self._streams.remove(peer)

"""The throttle of the admin port: limits what each address can try, by the login form, a bearer token or a cookie.

Each wrong proof counts for its address (an IPv4 address or IPv6 /64), and at most `MAX_WRONG` count at once. After that
nothing that is new from this address is looked at, until the oldest is forgiven. The same wrong proof counts once,
because repeating it guesses nothing: a program with a withdrawn token locks nobody out.

Operators who have proven themselves from an address are not affected by what others try from there.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

import trio

MAX_WRONG: Final = 5
"""Wrong proofs of one address in a row."""
_FORGIVEN_S: Final = 10.0  # after this time, one of them no longer counts
_PROVEN_S: Final = 86400.0  # for so long an operator is known at an address
_MAX_ADDRESSES: Final = 1000
_MAX_PROVEN: Final = 1000
_REMEMBERED: Final = 16  # wrong proofs of one address that count only once


class TooManyAttempts(Exception):
    """The address must wait for ``wait_s`` before anything new from it is looked at."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong tokens came from your address; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(slots=True)
class _Address:
    """What an address has tried."""

    counted: float = 0.0
    at: float = 0.0
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class Throttle:
    """What each address tried at this replica. A proof is the fingerprint of a token or of a cookie."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, _Address] = OrderedDict()  # the last refusal is last
        self._proven: OrderedDict[tuple[str, bytes], float] = OrderedDict()  # when, the last one last

    def check(self, address: str, proof: bytes) -> None:
        """Raise `TooManyAttempts` if this proof must not be looked at now."""
        if trio.current_time() - self._proven.get((address, proof), -_PROVEN_S) < _PROVEN_S:
            return
        tried = self._addresses.get(address)
        if tried is None or proof in tried.wrong:  # whose answer is known
            return
        wait_s = (self._counted(tried) - MAX_WRONG + 1) * _FORGIVEN_S
        if wait_s > 0:
            raise TooManyAttempts(wait_s)

    def accepted(self, address: str, proof: bytes) -> None:
        """Remember that this proof is an operator's."""
        self._proven[address, proof] = trio.current_time()
        self._proven.move_to_end((address, proof))
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)

    def refused(self, address: str, proof: bytes) -> None:
        """Count a wrong proof."""
        self._proven.pop((address, proof), None)
        tried = self._addresses.setdefault(address, _Address())
        if proof in tried.wrong:
            return
        tried.counted, tried.at = self._counted(tried) + 1, trio.current_time()
        tried.wrong.append(proof)
        self._addresses.move_to_end(address)
        if len(self._addresses) > _MAX_ADDRESSES:
            self._addresses.popitem(last=False)

    def _counted(self, tried: _Address) -> float:
        return max(0.0, tried.counted - (trio.current_time() - tried.at) / _FORGIVEN_S)

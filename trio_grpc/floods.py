"""What each peer has left of its flood units, over all of its connections and between them.

A connection has a budget of its own (`frames.FloodBudget`). Without this one, a peer that is cut off would come back
with a full budget, and one with many connections would have many.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from trio_grpc.frames import FloodBudget
from trio_grpc.limits import GrpcLimits

_MAX_PEERS: Final = 10_000  # about 2 MB; beyond it the peer is forgotten that connected first


class PeerFloods:
    """The budgets of the peers that connected last."""

    def __init__(self, limits: GrpcLimits) -> None:
        self._burst = limits.flood_connections * limits.max_flood_units
        self._per_s = limits.flood_connections * limits.flood_units_per_s
        self._budgets: OrderedDict[str, FloodBudget] = OrderedDict()

    def admit(self, peer: str, units: int, now: float, *, is_proxy: bool = False) -> FloodBudget | None:
        """Return the budget of a peer that connects, less the ``units`` that this costs; None if nothing is left.

        A connection of a proxy is a peer of its own, which never comes back, so that it is not remembered.
        """
        budget = self._budgets.get(peer) or FloodBudget(self._burst, self._per_s, now)
        if not is_proxy:
            self._budgets[peer] = budget
            self._budgets.move_to_end(peer)
        if len(self._budgets) > _MAX_PEERS:
            self._budgets.popitem(last=False)
        budget.charge(0, now)
        if budget.left < 0:
            return None
        budget.charge(units, now)
        return budget

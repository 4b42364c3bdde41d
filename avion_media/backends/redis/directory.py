"""Keeps track of the servers in charge and of their availability, by the results of calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio
from coredis import exceptions as refusals

from avion_media.backends.redis.connection import DIAL_PAUSE_S, RedisDialler
from avion_media.backends.redis.errors import ANY, cause_of
from avion_media.backends.redis.locator import Locator
from avion_media.backends.redis.node import RedisNode
from avion_media.backends.redis.topology import Cluster, Single, Topology
from avion_media.common.concurrency import OutagePause

_NOWHERE = ""  # in place of an address, if no server was found
_REFRESH_PAUSE_S = 0.5  # between two reads of a cluster's slots


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the last calls got a reply. ``since`` is when that changed (Unix seconds)."""

    up: bool
    since: float
    detail: str = ""


class Directory:
    """What is known of the servers. Only `locate` and `confirm` wait for a server."""

    def __init__(self, locator: Locator, dialler: RedisDialler) -> None:
        self._locator = locator
        self._dialler = dialler
        self._topology: Topology | None = None
        self._locating = trio.Lock()
        self._pause = OutagePause(*DIAL_PAUSE_S)
        self._refreshing = False
        self._refresh_wanted = False
        self._troubles = {_NOWHERE: "not connected yet"}  # by the server's address
        self._available = Availability(up=False, since=time.time(), detail="not connected yet")
        self.observer: Callable[[Availability], None] | None = (
            None  # called at each failure, and at the end of an outage
        )

    @property
    def available(self) -> Availability:
        """Unavailable as long as one of the servers is."""
        return self._available

    @property
    def topology(self) -> Topology | None:
        """The servers in charge; None if they must be looked up."""
        return self._topology if self._topology is not None and self._topology.usable else None

    async def locate(self) -> Topology:
        """Look up the servers in charge, or raise one of `errors.ANY`. If many tasks call it at once, one does the
        work."""
        async with self._locating:
            found = self.topology
            if self._dialler.nursery is None:
                raise refusals.ConnectionError("closed")
            if found is None:
                if self._pause.remaining_s:
                    raise refusals.ConnectionError(self._pause.detail)
                try:
                    found = await self._locator.locate()
                except ANY as error:
                    self._pause.failed(cause_of(error))
                    raise
                self._pause.succeeded()
                self._replace(found)
        return found

    async def confirm(self, single: Single) -> None:
        """Ask the Sentinels whether the server is still the master. If none responds, it counts as the master."""
        try:
            address = await self._locator.master_address(single.master)
        except ANY:
            return
        if address != single.node.address and single is self._topology:
            self.failed(single.node, f"the master is at {address} now", deposed=True)

    def answered(self, node: RedisNode) -> None:
        """Record that a server replied."""
        if self._troubles and self._troubles.pop(str(node.address), None) is not None:
            self._judge()

    def failed(self, node: RedisNode | None, detail: str, *, deposed: bool) -> None:
        """Record that a server did not reply, or that there is none. ``deposed``: another server may be in charge by
        now."""
        topology = self._topology
        if node is None:
            self._troubles[_NOWHERE] = detail
        elif topology is None or node in topology.nodes:
            self._troubles[str(node.address)] = detail
        self._judge()
        if isinstance(topology, Cluster):
            self.refresh_soon()
        elif topology is not None and topology.node is node and (deposed or not topology.usable):
            self._replace(None)

    def refresh_soon(self) -> None:
        """Read the cluster's slots again, in the background."""
        self._refresh_wanted = True
        if not self._refreshing and self._dialler.nursery is not None:
            self._refreshing = True
            self._dialler.start_soon(self._refresh)

    def close(self) -> None:
        """Forget everything, and end all connections."""
        self._replace(None)
        self._pause.succeeded()
        self._refreshing = self._refresh_wanted = False
        self._troubles = {_NOWHERE: "closed"}
        self._judge()

    async def _refresh(self) -> None:
        while self._refresh_wanted and isinstance(self._topology, Cluster):
            self._refresh_wanted = False
            cluster = self._topology
            if not await self._adopt_slots(cluster) and cluster is self._topology:
                self._replace(None)  # the seeds may know other servers
            await trio.sleep(_REFRESH_PAUSE_S)
        self._refreshing = False

    async def _adopt_slots(self, cluster: Cluster) -> bool:
        """Use the slots that any node reports. Return whether one did."""
        nodes = list(cluster.nodes)
        for node in random.sample(nodes, len(nodes)):
            try:
                rows = await node.call(("CLUSTER", "SLOTS"))
            except ANY:
                continue
            if cluster is self._topology:  # else it was closed meanwhile
                cluster.adopt(rows, node.address)
                self._forget_troubles_elsewhere()
            return True
        return False

    def _replace(self, topology: Topology | None) -> None:
        former, self._topology = self._topology, topology
        if former is not None:
            former.close()
        if topology is not None:
            self._forget_troubles_elsewhere()

    def _forget_troubles_elsewhere(self) -> None:
        """Forget failures of servers that are no longer in charge."""
        if self._topology is not None:
            present = {str(each.address) for each in self._topology.nodes}
            self._troubles = {where: what for where, what in self._troubles.items() if where in present}
            self._judge()

    def _judge(self) -> None:
        detail = next(iter(self._troubles.values()), "")
        up = not self._troubles
        since = self._available.since if up == self._available.up else time.time()
        self._available = Availability(up, since, detail)
        if self.observer is not None:
            self.observer(self._available)

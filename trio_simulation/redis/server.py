"""The server: connections, clients that wait, a standby, failover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
from fakeredis._core import FakeServer
from fakeredis._helpers import SimpleError, SimpleString
from fakeredis.model import is_write_command

from ..processes import current_process
from .client import ModelClient, Outgoing, Wait
from .resp import Verbatim

if TYPE_CHECKING:
    from ..faults import Fault
    from ..nodes import Node
    from ..simulation import Simulation

_RECEIVED_BYTES = 65536
_SCRIPTS = frozenset({"eval", "evalsha"})
_OK = SimpleString(b"OK")


@dataclass(frozen=True, slots=True)
class _Change:
    """A command as its replica gets it."""

    at: float
    database: int
    fields: tuple[bytes, ...]


class RedisModel:
    """One Redis, for the program of a node: ``node.start(model.serve)``.

    Its data outlive a kill of the node, as with an append-only file that is written at once, unless ``persistent`` is
    False. `fail_over` puts a standby in its place, which may lack the newest seconds.

    Args:
      port: where it listens, at all addresses of its node.
      version: what INFO and HELLO report.
      persistent: whether data outlive the process.
      replicated: whether `fail_over` is possible. The commands of the whole run are then kept.
    """

    def __init__(
        self, *, port: int = 6379, version: str = "8.0.2", persistent: bool = True, replicated: bool = True
    ) -> None:
        self.version = version
        self.commands = 0
        self._port = port
        self._persistent = persistent
        self._replicated = replicated
        self._runs = 0
        self._server = FakeServer(version=(8, 0))
        self._changes: list[_Change] = []
        self._blocked: dict[ModelClient, None] = {}
        self._to_go_on: list[ModelClient] = []
        self._nursery: trio.Nursery | None = None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer clients until cancelled."""
        self._runs += 1
        if self._runs > 1 and not self._persistent:
            self._server, self._changes = FakeServer(version=(8, 0)), []
        self._server.sockets.clear()
        self._blocked.clear()
        listeners = await trio.open_tcp_listeners(self._port, host="0.0.0.0")
        task_status.started()
        async with trio.open_nursery() as self._nursery:
            await trio.serve_listeners(self._serve_client, listeners, handler_nursery=self._nursery)

    def call(self, *fields: str | bytes | int) -> Any:
        """Run one command at once, for a scenario that looks at the data, and return its reply.

        The reply consists of numbers, bytes, lists and dicts. An error is raised as a ValueError.
        """
        replies: list[Any] = []
        client = ModelClient(self, self._server, lambda _data: None)
        client.put_response = replies.append  # type: ignore[assignment, method-assign]
        client.run([each if isinstance(each, bytes) else str(each).encode() for each in fields])
        client.close()
        [reply] = replies
        if isinstance(reply, SimpleError):
            raise ValueError(reply.value)
        return reply.value if isinstance(reply, SimpleString) else reply

    # --- failover

    def fail_over(self, node: Node, lost_s: float) -> int:
        """Kill the server and put its standby in its place, which lacks what was written in the last seconds.

        The node's program must be started again afterwards. Expiry and the ids of streams are those of the times at
        which the commands ran first. A script that draws randomness may run otherwise.

        Returns:
          how many commands were lost.
        """
        if not self._replicated:
            raise RuntimeError("this model has no standby")
        node.kill()
        clock = current_process().node.clock
        until = node.clock.read(trio.current_time()) - lost_s
        kept = [change for change in self._changes if change.at <= until]
        lost = len(self._changes) - len(kept)
        standby = FakeServer(version=(8, 0))
        replica = ModelClient(self, standby, None)
        for change in kept:
            with clock.standing_at(change.at):
                replica.run([b"SELECT", b"%d" % change.database])
                replica.run(list(change.fields))
        replica.close()
        standby.script_cache.clear()  # scripts are not replicated
        self._server, self._changes = standby, kept
        return lost

    def failover_fault(self, max_lost_s: float = 1.0) -> Callable[[Simulation, Fault], Callable[[], None]]:
        """Return a kind of fault for `Simulation.fault_kinds`: the first node of the fault is this server's.

        The server is away while the fault lasts. The fault's amount is the share of ``max_lost_s`` that is lost.
        """

        def begin(simulation: Simulation, fault: Fault) -> Callable[[], None]:
            node = simulation[fault.nodes[0]]
            lost = self.fail_over(node, fault.amount * max_lost_s)
            simulation.note(f"failover of {node.name} without {lost} commands")
            return node.power_on

        return begin

    def replicate(self, client: ModelClient, name: str, arguments: list[Any], result: Any) -> None:
        """Keep a command for the standby if it may write."""
        if not self._replicated or not (is_write_command(name.encode()) or name in _SCRIPTS):
            return
        fields = [*name.upper().encode().split(b" "), *arguments]
        if name == "evalsha":
            fields = [b"EVAL", client._server.script_cache[arguments[0]], *arguments[1:]]
        elif name == "spop":
            members = result if isinstance(result, list) else [result]
            fields = [b"SREM", arguments[0], *(each for each in members if each is not None)]
            if len(fields) == 2:
                return
        self._changes.append(_Change(time.time(), client._db_num, tuple(fields)))

    # --- connections

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        outgoing = Outgoing()
        client = ModelClient(self, self._server, outgoing.add)
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(outgoing.send_all, stream)
                async for data in stream:
                    client.feed(bytes(data))
                    self._let_go_on()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client is gone
        finally:
            self._forget(client)

    def _forget(self, client: ModelClient) -> None:
        client.wait = None
        self._blocked.pop(client, None)
        with _ignoring_closed():
            client._discard_subscriptions()
            client.close()

    # --- clients that wait

    def block(self, client: ModelClient, wait: Wait) -> None:
        """Let a client wait."""
        self._blocked[client] = None
        if wait.timeout_s:
            assert self._nursery is not None
            self._nursery.start_soon(self._time_out, client, wait)

    def unblock(self, client: ModelClient) -> None:
        """Forget that a client waits; it goes on after the command that has woken it."""
        self._blocked.pop(client, None)
        self._to_go_on.append(client)

    async def _time_out(self, client: ModelClient, wait: Wait) -> None:
        await trio.sleep(wait.timeout_s)
        if client.wait is wait:
            client.answer_wait(None)
            self._let_go_on()

    def wake_blocked(self) -> None:
        """Answer the clients that need wait no longer, first come, first served."""
        for client in list(self._blocked):
            if client.wait is None or client._server is not self._server or client.take_unblocking():
                continue
            now = time.time()
            for database in self._server.dbs.values():
                database.time = now
            try:
                name, arguments = client.waiting_command
                if name == "xreadgroup":
                    client.check_groups(arguments)
                with self._server.lock:  # what reads also wakes, which fakeredis does under the lock only
                    reply = client.wait.read(False)
            except SimpleError as error:
                reply = error
            if reply:
                self.replicate(client, *client.waiting_command, None)
                client.answer_wait(reply)

    def _let_go_on(self) -> None:
        while self._to_go_on:
            self._to_go_on.pop(0).go_on()

    # --- what fakeredis does not answer

    def answer(self, client: ModelClient, fields: list[bytes]) -> Any:
        """Return the reply to a command about the server, None for all others."""
        self.commands += 1
        name = fields[0].upper()
        second = fields[1].upper() if len(fields) > 1 else b""
        if name == b"INFO":
            return Verbatim(self._info())
        if name == b"ROLE":
            return [b"master", 0, []]
        if name == b"CONFIG" and second == b"GET":
            return self._config(fields[2:])
        if name == b"WAIT" and len(fields) == 3:
            return 1 if self._replicated else 0
        if name == b"QUIT":
            return _OK
        return None

    def _info(self) -> str:
        keys = sum(len(database) for database in self._server.dbs.values())
        facts = {
            "redis_version": self.version,
            "redis_mode": "standalone",
            "run_id": f"{self._runs:040x}",
            "tcp_port": self._port,
            "uptime_in_seconds": 1,
            "connected_clients": len(self._server.sockets),
            "blocked_clients": len(self._blocked),
            "used_memory": 1_000_000 + 100 * keys,
            "maxmemory": 0,
            "maxmemory_policy": "noeviction",
            "loading": 0,
            "aof_enabled": int(self._persistent),
            "role": "master",
            "connected_slaves": int(self._replicated),
        }
        databases = [
            f"db{number}:keys={len(database)},expires=0,avg_ttl=0"
            for number, database in self._server.dbs.items()
            if len(database)
        ]
        return "\r\n".join([*(f"{name}:{value}" for name, value in facts.items()), *databases, ""])

    def _config(self, names: list[bytes]) -> dict[bytes, bytes]:
        known = {
            b"save": b"",
            b"appendonly": b"yes" if self._persistent else b"no",
            b"maxmemory": b"0",
            b"maxmemory-policy": b"noeviction",
            **self._server.config,
        }
        return {name: known[name.lower()] for name in names if name.lower() in known}


@contextmanager
def _ignoring_closed() -> Iterator[None]:
    """A client that another one has killed is closed already."""
    try:
        yield
    except AttributeError:
        pass

"""One client of the model: what fakeredis does otherwise than Redis is repaired here.

Each repair has a question in `tests/test_redis.py`, which a real server answers as well. Checked with fakeredis 2.41.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
import trio
from fakeredis._commands import Signature
from fakeredis._core import FakeServer
from fakeredis._helpers import NoResponse, SimpleError
from fakeredis._socket._fakesocket import FakeSocket

from .resp import encode, encode_push

if TYPE_CHECKING:
    from .server import RedisModel

_MESSAGES = frozenset(
    {
        *(b"message", b"pmessage", b"smessage"),
        *(b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe"),
    }
)
# A set of Python has its elements in the order of their hashes, which differs from run to run.
_ANSWERED_BY_A_SET = frozenset({"smembers", "sinter", "sunion", "sdiff"})
_LUA_COLLECTIONS_BETWEEN = 256
_SUBSCRIBED = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)
_SENTENCES = (
    (re.compile(r"^ERR invalid expire time in (\w+)$"), r"ERR invalid expire time in '\1' command"),
    (re.compile(r"^ERR BUSYGROUP "), "BUSYGROUP "),
)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a blocked client waits for.

    Attributes:
      read: returns the reply, or None if there is none yet.
      shape: gives the reply, or the None of a timeout, its form.
      timeout_s: 0 means without end.
    """

    read: Callable[[bool], Any]
    shape: Callable[[Any], Any] | None
    timeout_s: float

    def shaped(self, reply: Any) -> Any:
        """Return a reply in its form."""
        return reply if self.shape is None or isinstance(reply, SimpleError) else self.shape(reply)


class ModelClient(FakeSocket):
    """A connection, without the network. ``send`` gets bytes for its client; a replica's own has none."""

    def __init__(self, model: RedisModel, server: FakeServer, send: Callable[[bytes], None] | None) -> None:
        super().__init__(server, 0, client_class=redis.Connection)
        self.wait: Wait | None = None
        # What it waits for, for the replica: the command counts when it is answered.
        self.waiting_command: tuple[str, list[Any]] = ("", [])
        self._model = model
        self._send = send
        self._fields: list[bytes] = []

    def __hash__(self) -> int:
        # Subscribers are a set: messages go to them in the order in which they connected.
        return int(self._client_info["id"])

    def feed(self, data: bytes) -> None:
        """Run the commands that are complete with these bytes."""
        self._parser.send(data)

    def run(self, fields: list[bytes]) -> None:
        """Run one command."""
        self._process_command(fields)

    # --- replies

    def put_response(self, msg: Any) -> None:
        """Send a reply or a message."""
        if self._send is None:
            return
        msg = _as_redis_says(msg)
        version = self._client_info.protocol_version
        pushed = isinstance(msg, list) and bool(msg) and isinstance(msg[0], bytes) and msg[0] in _MESSAGES
        self._send(encode_push(msg, version) if pushed else encode(msg, version))

    def _decode_result(self, result: Any) -> Any:
        return result  # fakeredis turns errors into exceptions of a client library

    # --- commands

    def _process_command(self, fields: list[bytes]) -> None:
        if not fields:
            return
        self._fields = fields
        if self._send is not None and (reply := self._model.answer(self, fields)) is not None:
            self.put_response(reply)
            return
        super()._process_command(_without_flags(self._server, fields))
        self._model.wake_blocked()

    def _run_command(
        self, func: Callable[[Any], Any] | None, sig: Signature, args: list[Any], from_script: bool
    ) -> Any:
        name = sig.name.lower()
        self.waiting_command = name, args
        if self._pubsub and self._client_info.protocol_version == 2 and name not in self.ACCEPTED_COMMANDS_WHILE_PUBSUB:
            return SimpleError(_SUBSCRIBED.format(name))
        with self._allowed_to_subscribers(name):
            result = _as_redis_says(super()._run_command(func, sig, args, from_script))
        if name in _ANSWERED_BY_A_SET and isinstance(result, list):
            result.sort()
        if self._send is not None and not from_script and not isinstance(result, SimpleError | NoResponse):
            self._model.replicate(self, name, args, result)
        return result

    @contextmanager
    def _allowed_to_subscribers(self, name: str) -> Iterator[None]:
        """With RESP3, a client that has subscribed can call everything."""
        hidden = self._client_info.protocol_version == 3 and name not in self.ACCEPTED_COMMANDS_WHILE_PUBSUB
        subscriptions = self._pubsub
        self._pubsub = 0 if hidden else subscriptions
        try:
            yield
        finally:
            if hidden:
                self._pubsub = subscriptions

    def _unknown_command(self, command: str, args: str | None = None) -> SimpleError:
        if self._send is None or not self._fields:
            return super()._unknown_command(command, args)
        name, *rest = (each.decode(errors="replace") for each in self._fields)
        shown = "".join(f"'{each}' " for each in rest)
        return SimpleError(f"ERR unknown command '{name}', with args beginning with: {shown}")

    def hello(self, *args: bytes) -> dict[str, Any]:
        """Answer HELLO as a server does; without a version, the protocol stays."""
        if not args:
            args = (str(self._client_info.protocol_version).encode(),)
        elif args[0] not in (b"2", b"3"):
            raise SimpleError("NOPROTO unsupported protocol version")
        return {**super().hello(*args), "server": "redis", "version": self._model.version}

    def xreadgroup(self, *args: bytes) -> Any:
        """Read as a consumer. A missing key is reported as a missing group is."""
        self.check_groups(args)
        return super().xreadgroup(*args)

    def check_groups(self, arguments: Sequence[bytes]) -> None:
        """Raise an error if a key of XREADGROUP is missing, or has no such group."""
        upper = [each.upper() for each in arguments]
        if b"STREAMS" not in upper:
            return
        group = arguments[1]
        names = arguments[upper.index(b"STREAMS") + 1 :]
        for name in names[: len(names) // 2]:
            stream = self._db.get(name)
            if stream is None or (hasattr(stream.value, "group_get") and stream.value.group_get(group) is None):
                raise SimpleError(
                    f"NOGROUP No such key '{name.decode()}' or consumer group '{group.decode()}' "
                    "in XREADGROUP with GROUP option"
                )

    def xpending(self, key: Any, group_name: bytes, *args: bytes) -> Any:
        """Answer XPENDING; its summary has numbers as text."""
        reply = super().xpending(key, group_name, *args)
        if not args and isinstance(reply, list) and reply[3]:
            reply[3] = [[name, b"%d" % number] for name, number in reply[3]]
        return reply

    def _xreadgroup_reply(self, res: dict[bytes, Any] | None) -> Any:
        if not res:
            return None
        # A script has a protocol of its own.
        return [[name, entries] for name, entries in res.items()] if self._resp_version == 2 else res

    def _empty_stream_read_reply(self, res: Any) -> Any:
        if not res:
            return None
        if isinstance(res, dict) and self._resp_version == 2:
            return [[name, entries] for name, entries in res.items()]
        return res

    # --- waiting

    def _blocking(
        self, timeout: float | None, func: Callable[[bool], Any], shape: Callable[[Any], Any] | None = None
    ) -> Any:
        wait = Wait(func, shape, timeout or 0.0)
        reply = func(True)
        if reply or self._in_transaction or self._send is None or self._script_resp is not None:
            return wait.shaped(reply)
        self.wait = wait
        self._blocked = self._paused = True
        self._model.block(self, wait)
        return NoResponse()

    def take_unblocking(self) -> bool:
        """Return whether another client has ended the wait (CLIENT UNBLOCK), and answer."""
        reason, self._unblock_reason = self._unblock_reason, None
        if reason is None or self.wait is None:
            return False
        error = SimpleError("UNBLOCKED client unblocked via CLIENT UNBLOCK")
        self.answer_wait(error if reason == b"error" else None)
        return True

    def answer_wait(self, reply: Any) -> None:
        """End the wait with a reply, and run what was sent meanwhile."""
        assert self.wait is not None
        shaped = self.wait.shaped(reply)
        self.wait = None
        self._blocked = self._paused = False
        self._model.unblock(self)
        self.put_response(shaped)

    def go_on(self) -> None:
        """Run what was sent during a wait."""
        self._parser.send(b"")

    # --- scripts

    def _lua_redis_pcall(self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any) -> Any:
        try:
            return self._lua_redis_call(lua_runtime, expected_globals, op, *args)
        except SimpleError as error:
            # As bytes: Lua gets a str as userdata.
            return lua_runtime.table_from({b"err": error.value.encode()})

    def _get_server_runtime(self, server: FakeServer) -> Any:
        runtime = super()._get_server_runtime(server)
        if not hasattr(server, "compiled_scripts"):
            runtime.globals()[b"redis"][b"sha1hex"] = _sha1_hex
            server.compiled_scripts = CompiledScripts(runtime)  # type: ignore[attr-defined]
        return server.compiled_scripts  # type: ignore[attr-defined]


def _sha1_hex(data: bytes) -> bytes:
    return hashlib.sha1(data).hexdigest().encode()


class CompiledScripts:
    """The Lua runtime of a server. fakeredis compiles a script, and collects all of Lua's garbage, at each call."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._compiled: dict[bytes, Any] = {}
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def execute(self, source: Any) -> Any:
        """Run a script."""
        if source == "collectgarbage()":
            self._calls += 1
            return self._runtime.execute(source) if self._calls % _LUA_COLLECTIONS_BETWEEN == 0 else None
        if source not in self._compiled:
            self._compiled[source] = self._runtime.compile(source)
        return self._compiled[source]()


def _as_redis_says(result: Any) -> Any:
    """Return a reply with the sentence of an error as Redis writes it."""
    if isinstance(result, SimpleError):
        for pattern, sentence in _SENTENCES:
            result.value = pattern.sub(sentence, result.value)
    return result


def _without_flags(server: FakeServer, fields: list[bytes]) -> list[bytes]:
    """Return a command without the first line of its script (``#!lua flags=…``), which fakeredis does not know."""
    name = fields[0].upper()
    if name == b"EVAL" and len(fields) > 1 and fields[1].startswith(b"#!"):
        return [b"EVALSHA", _remember(server, fields[1]), *fields[2:]]
    if name == b"SCRIPT" and len(fields) == 3 and fields[1].upper() == b"LOAD" and fields[2].startswith(b"#!"):
        return [b"ECHO", _remember(server, fields[2])]
    return fields


def _remember(server: FakeServer, script: bytes) -> bytes:
    digest = hashlib.sha1(script).hexdigest().encode()
    server.script_cache[digest] = b"\n" + script.split(b"\n", 1)[1]  # errors name the right line
    return digest


class Outgoing:
    """Bytes that a connection is yet to send."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._changed = trio.Event()

    def add(self, data: bytes) -> None:
        """Send these bytes after those before them."""
        self._data += data
        self._changed.set()

    async def send_all(self, stream: trio.abc.SendStream) -> None:
        """Send what is added, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            data = bytes(self._data)
            self._data.clear()
            await stream.send_all(data)

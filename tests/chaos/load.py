"""Load by independent clients: grpcio and grpc-go for calls, httpx for the uploads' PUTs."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.service.harness import eventually, put_upload

CALLS_PER_S = 50.0
_CALL_S = 15.0
ONLY_GRPCIO, ONLY_GRPC_GO = "CompleteMediaUpload", "GetCapabilities"
_UPLOAD = wire.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=1000)
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "avion.MediaService"},
}


def balanced_channel(addresses: Sequence[str]) -> grpc.Channel:
    """A channel like the gateway's: round robin over all replicas that report to be healthy."""
    return grpc.insecure_channel(
        "ipv4:" + ",".join(addresses),
        options=[
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ],
    )


class Caller:
    """MediaService over a channel. ``codes`` counts the calls by status, OK included."""

    def __init__(self, channel: grpc.Channel, *, retries: bool) -> None:
        """With ``retries``, a call that was UNAVAILABLE is repeated after the time in its RetryInfo."""
        self._channel = channel
        self._retries = retries
        self.codes: Counter[str] = Counter()
        self.problems: list[str] = []

    def method(self, name: str, answer: Any) -> Any:
        """Return a multi-callable of grpcio."""
        return self._channel.unary_unary(
            f"/avion.MediaService/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def call(self, name: str, request: Any, answer: Any) -> Any:
        """Make one call; with ``retries`` it is repeated for up to a minute."""
        deadline = time.monotonic() + 60
        while True:
            try:
                response = self.method(name, answer)(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                self.note(name, error)
                if not self._retries or error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                self.codes["OK"] += 1
                return response

    def note(self, name: str, error: Any) -> None:
        """Count a failure."""
        self.codes[error.code().name] += 1
        self.problems.append(f"{name}: {error.code().name}: {error.details()}")

    def state(self, media_id: str) -> Any:
        """Return the present state of a media item."""
        return self.call("GetMediaStatus", wire.GetMediaStatusRequest(media_id=media_id), wire.MediaStatus).state

    def upload(self, body: bytes) -> str:
        """Request, PUT and complete an upload. Return its id."""
        request = wire.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=len(body))
        granted = self.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
        put = put_upload(granted, body)
        assert put.status_code == 200, put.text
        complete = wire.CompleteMediaUploadRequest(media_id=granted.media_id)
        self.call("CompleteMediaUpload", complete, wire.CompleteMediaUploadResponse)
        return str(granted.media_id)

    def wait_ready(self, media_ids: Iterable[str], timeout_s: float = 60.0) -> None:
        """Wait until all of them are READY."""
        waiting = set(media_ids)

        def all_ready() -> bool:
            waiting.difference_update({each for each in waiting if self.state(each) == wire.MediaStatus.READY})
            return not waiting

        eventually(all_ready, f"{len(waiting)} uploads to be ready", timeout_s)


class _Background:
    """A thread for the time of a block. Its error is raised at the end of the block."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._failure: BaseException | None = None

    def work(self) -> None:
        """Work until ``stopping`` is set."""
        raise NotImplementedError

    def _guarded(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self._failure = error

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), f"{type(self).__name__} did not end"
        if self._failure is not None and error is None:
            raise self._failure


class SteadyCalls(_Background):
    """Calls at a constant rate, even if responses are late: statuses, and requests for uploads."""

    def __init__(self, caller: Caller, media_id: str) -> None:
        super().__init__()
        self._caller = caller
        self._media_id = media_id
        self.made = 0

    def work(self) -> None:
        """See `_Background.work`."""
        status = self._caller.method("GetMediaStatus", wire.MediaStatus)
        request = self._caller.method("RequestMediaUpload", wire.RequestMediaUploadResponse)
        look = wire.GetMediaStatusRequest(media_id=self._media_id)
        open_calls: list[Any] = []
        next_at = time.monotonic()
        while not self.stopping.wait(max(0.0, next_at - time.monotonic())):
            next_at += 1 / CALLS_PER_S
            if self.made % 2:
                open_calls.append(("GetMediaStatus", status.future(look, timeout=_CALL_S)))
            else:
                open_calls.append(("RequestMediaUpload", request.future(_UPLOAD, timeout=_CALL_S)))
            self.made += 1
            open_calls = [each for each in open_calls if not self._ended(*each)]
        for name, call in open_calls:
            call.exception(_CALL_S + 5)
            assert self._ended(name, call)

    def _ended(self, name: str, call: Any) -> bool:
        if not call.done():
            return False
        error = call.exception()
        if error is None:
            self._caller.codes["OK"] += 1
        else:
            self._caller.note(name, error)
        return True


class SteadyGoCalls:
    """The same calls, and `ONLY_GRPC_GO`, at the same rate for the time of a block (``program``: `steady_calls.go`)."""

    def __init__(self, program: Path, addresses: Sequence[str], caller: Caller, media_id: str) -> None:
        self._caller = caller
        look = wire.GetMediaStatusRequest(media_id=media_id)
        self._command = [
            str(program),
            ",".join(addresses),
            f"{CALLS_PER_S:.0f}",
            f"/avion.MediaService/GetMediaStatus={look.SerializeToString().hex()}",
            f"/avion.MediaService/RequestMediaUpload={_UPLOAD.SerializeToString().hex()}",
            f"/avion.MediaService/{ONLY_GRPC_GO}=",
        ]
        self.made = 0

    def __enter__(self) -> SteadyGoCalls:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._process:
            output, _ = self._process.communicate(timeout=_CALL_S + 5)
        found = json.loads(output)
        self.made = sum(found["codes"].values())
        self._caller.codes.update(found["codes"])
        self._caller.problems += found["problems"]


class SteadyUploads(_Background):
    """One upload after the other."""

    def __init__(self, caller: Caller, body: bytes, pause_s: float = 0.3) -> None:
        super().__init__()
        self._caller = caller
        self._body = body
        self._pause_s = pause_s
        self.media_ids: list[str] = []

    def work(self) -> None:
        """See `_Background.work`."""
        while not self.stopping.wait(self._pause_s):
            self.media_ids.append(self._caller.upload(self._body))


class Later(_Background):
    """Calls a function once, concurrently with the block."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        self.result: Any = None

    def work(self) -> None:
        """See `_Background.work`."""
        self.result = self._function()


def ready_events(client: redis.Redis) -> Counter[str]:
    """Return how often each media item was announced as ready."""
    rows: Any = client.xrange("media_events")
    events = [json.loads(fields["event"]) for _, fields in rows]
    return Counter(event["media_id"] for event in events if event["type"] == "media.ready")

"""An outage is a state: every call says Unavailable, cancels stay prompt, and it ends by itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from structlog.testing import capture_logs

from avion_media.backends.store import FileSource, Lives, ObjectStore, open_store
from avion_media.common import clock
from avion_media.common.errors import ObjectMissing, Unavailable
from tests.conftest import S3Bucket
from tests.services.faulty_gateway import FaultyGateway, faulty_gateway
from tests.services.process import free_port

CONTENT = os.urandom(6 << 20)


@pytest.fixture
async def gateway(s3: S3Bucket) -> AsyncIterator[FaultyGateway]:
    async with faulty_gateway(s3.address.endpoint_url) as running:
        yield running


@pytest.fixture
async def behind(s3: S3Bucket, gateway: FaultyGateway) -> AsyncIterator[ObjectStore]:
    """A store that is reached through the gateway."""
    async with open_store(s3.config(endpoint_url=gateway.url, timeout=1.0)) as store:
        yield store


async def head(store: ObjectStore) -> None:
    await store.head("a")


async def read(store: ObjectStore) -> None:
    await store.read("a", max_bytes=1 << 30)


async def put(store: ObjectStore) -> None:
    await store.put("a", b"x", content_type="text/plain")


async def delete(store: ObjectStore) -> None:
    await store.delete(["a"])


async def list_all(store: ObjectStore) -> None:
    async for _ in store.list(""):
        pass


async def ensure_bucket(store: ObjectStore) -> None:
    await store.ensure_bucket(Lives(86_400.0, 86_400.0))


CALLS = [head, read, put, delete, list_all, ObjectStore.ping, ensure_bucket]


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_away_makes_every_call_unavailable(
    s3: S3Bucket, call: Callable[[ObjectStore], Awaitable[None]]
) -> None:
    config = s3.config(endpoint_url=f"http://127.0.0.1:{free_port()}")
    with trio.fail_after(30):
        async with open_store(config) as store:
            with pytest.raises(Unavailable) as failure:
                await call(store)
            assert failure.value.dependency == "store"
            assert not store.state.is_available
            store.uploads.put("a", content_type="image/png", size_bytes=1, expires_s=9, now=datetime.now(UTC))


async def test_a_store_that_comes_up_later_is_noticed_without_traffic(s3: S3Bucket) -> None:
    port = free_port()
    with capture_logs() as logged:
        async with open_store(s3.config(endpoint_url=f"http://127.0.0.1:{port}")) as store:
            await _noticed_once_it_is_up(store, s3, port)
    assert [(line["event"], line["log_level"]) for line in logged if line["log_level"] != "debug"] == [
        ("store.unavailable", "warning"),
        ("store.recovered", "info"),
    ]
    assert str(port) in logged[0]["detail"]


@pytest.mark.parametrize("call", [head, read, put, ObjectStore.ping])
async def test_a_server_that_is_no_store_is_unavailable_and_the_log_says_why(
    s3: S3Bucket, call: Callable[[ObjectStore], Awaitable[None]]
) -> None:
    """The wrong scheme or port in the endpoint's URL: it answers, but it was never a store."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    port = free_port()
    with capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_tcp, refuse, port, host="127.0.0.1"))
            async with open_store(s3.config(endpoint_url=f"http://127.0.0.1:{port}")) as store:
                with pytest.raises(Unavailable) as failure:
                    await call(store)
                assert failure.value.dependency == "store"
                assert not store.state.is_available
                assert "400" in store.state.cause
            nursery.cancel_scope.cancel()
    warnings = [line for line in logged if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == ["store.unavailable"]
    assert "400" in warnings[0]["detail"]


async def test_a_store_that_is_there_from_the_start_is_not_back(s3: S3Bucket) -> None:
    with capture_logs() as logged:
        async with open_store(s3.config()) as store:
            await store.state.wait_available()
    assert not logged


async def _noticed_once_it_is_up(store: ObjectStore, s3: S3Bucket, port: int) -> None:
    with pytest.raises(Unavailable):
        await store.ping()
    gateway = FaultyGateway(s3.address.endpoint_url, port)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, gateway.serve, port)
            await store.state.wait_available()
            nursery.cancel_scope.cancel()
    assert store.state.is_available


@pytest.mark.parametrize("call", [head, put, ObjectStore.ping])
async def test_a_store_that_never_answers_is_unavailable_in_bounded_time(
    behind: ObjectStore, gateway: FaultyGateway, call: Callable[[ObjectStore], Awaitable[None]]
) -> None:
    gateway.stall_after = 0

    with trio.fail_after(20), pytest.raises(Unavailable):
        await call(behind)
    assert not behind.state.is_available


async def test_a_refused_ping_names_the_code_of_the_store(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    async with open_store(s3.config(), watched=False) as store:
        with pytest.raises(Unavailable, match=r"refuses the credentials .*: status 403: SignatureDoesNotMatch"):
            await store.ping()


async def test_a_wrong_clock_is_not_called_wrong_credentials(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(s3.config(), watched=False) as store:
        monkeypatch.setattr(clock, "_since_boot_s", time.time() - time.monotonic() - 1200)
        for call in (store.ping, partial(put, store)):
            with pytest.raises(Unavailable, match=r"clock here or there is wrong: .*; the clocks differ"):
                await call()


async def test_a_full_store_is_named_and_what_is_stored_stays_readable(
    behind: ObjectStore, gateway: FaultyGateway
) -> None:
    await behind.put("a", b"x", content_type="video/mp4")
    gateway.full = True

    for key in ("b", "c", "d"):
        with pytest.raises(Unavailable, match="it is full: status 403: QuotaExceeded"):
            await behind.put(key, b"x", content_type="video/mp4")
    assert behind.state.cause.startswith("PutObject fails for every object: it is full")
    assert await behind.read("a", max_bytes=1) == b"x"

    gateway.full = False
    await behind.put("b", b"x", content_type="video/mp4")
    assert behind.state.is_available


async def test_a_missing_object_is_no_outage(behind: ObjectStore) -> None:
    await behind.state.wait_available()
    with pytest.raises(ObjectMissing):
        await head(behind)
    assert behind.state.is_available


async def test_a_missing_object_says_nothing_of_a_bucket_that_never_answered(s3: S3Bucket) -> None:
    """To a HEAD the store answers 404 in either case."""
    async with open_store(s3.config(bucket=f"{s3.bucket}-missing")) as store:
        for _ in range(3):
            with pytest.raises(ObjectMissing):
                await head(store)
            assert not store.state.is_available
            with pytest.raises(Unavailable):
                await store.ping()
        assert "run avion-media init" in store.state.cause


async def test_a_body_that_breaks_off_is_unavailable_and_never_taken_for_whole(
    behind: ObjectStore, gateway: FaultyGateway
) -> None:
    await behind.put("a", CONTENT, content_type="video/mp4")
    gateway.break_after = 3 << 20

    with trio.fail_after(30):
        with pytest.raises(Unavailable):
            await behind.read("a", max_bytes=1 << 30)
        with tempfile.TemporaryFile() as file, pytest.raises(Unavailable):
            await behind.download("a", file.fileno(), max_bytes=1 << 30)
        with tempfile.TemporaryFile() as file, pytest.raises(Unavailable):
            await behind.read_ranges("a", [(0, 4 << 20), (5 << 20, 10)], file.fileno())

    gateway.break_after = None
    assert await behind.read("a", max_bytes=1 << 30) == CONTENT


async def test_a_put_whose_answer_is_lost_is_unavailable_and_can_be_repeated(
    behind: ObjectStore, gateway: FaultyGateway
) -> None:
    gateway.break_after = 0
    with trio.fail_after(30), pytest.raises(Unavailable):
        await put(behind)
    assert not behind.state.is_available

    gateway.break_after = None
    await put(behind)

    await behind.state.wait_available()
    assert await behind.read("a", max_bytes=10) == b"x"


@pytest.mark.parametrize("how", ["read", "download"])
async def test_a_cancelled_read_returns_at_once_and_gives_its_connection_up(
    s3: S3Bucket, gateway: FaultyGateway, how: str
) -> None:
    """The store is silent for far longer than the test may take, so only the cancel can end the wait."""
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=CONTENT)

    async def fetch(store: ObjectStore) -> None:
        if how == "read":
            await read(store)
        else:
            with tempfile.TemporaryFile() as file:
                await store.download("a", file.fileno(), max_bytes=1 << 30)

    async with open_store(s3.config(endpoint_url=gateway.url, timeout=3.0)) as store:
        await store.state.wait_available()
        gateway.stall_after = 2 << 20
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, store)
            with trio.fail_after(20):
                await gateway.held.wait()
            started = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - started < 2
        with trio.fail_after(20):  # its thread meets the socket timeout, and closes what it held
            await gateway.ended.wait()


async def test_a_cancelled_put_has_landed_whole_or_not_at_all_when_it_returns(
    s3: S3Bucket, gateway: FaultyGateway
) -> None:
    async with open_store(s3.config(endpoint_url=gateway.url, timeout=1.0)) as store:
        await store.state.wait_available()
        gateway.stall_after = 0
        with tempfile.TemporaryFile() as file:
            file.write(CONTENT)
            file.flush()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_put_file, store, FileSource(file.fileno(), len(CONTENT)))
                with trio.fail_after(20):
                    await gateway.held.wait()
                nursery.cancel_scope.cancel()
        gateway.stall_after = None

        assert store.limiters["store.calls"].borrowed_tokens == 0  # so nothing can land from now on
        assert _size_of_only_object(s3) in (None, len(CONTENT))


async def test_a_caller_that_is_already_cancelled_changes_nothing(s3: S3Bucket) -> None:
    async with open_store(s3.config()) as store:
        await store.put("b", b"x", content_type="text/plain")
        for change in (put, lambda store: store.delete(["b"])):
            with trio.CancelScope() as scope:
                scope.cancel()
                await change(store)
            assert scope.cancelled_caught
        assert [await store.exists(key) for key in ("a", "b")] == [False, True]


async def _put_file(store: ObjectStore, source: FileSource) -> None:
    await store.put("a", source, content_type="video/mp4")


def _size_of_only_object(s3: S3Bucket) -> int | None:
    listed = s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    return listed[0]["Size"] if listed else None


async def test_cancelling_reads_under_load_exhausts_nothing(s3: S3Bucket) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=CONTENT)

    async def read_within(store: ObjectStore, limit_s: float) -> None:
        with trio.move_on_after(limit_s):
            assert await store.read("a", max_bytes=len(CONTENT)) == CONTENT

    async with open_store(s3.config(threads=2)) as store:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(read_within, store, 0.02 if number % 2 else 60)
            await store.ping()


# -- credentials


async def test_without_credentials_everything_says_what_to_set(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.delenv("AWS_SECRET_ACCESS_KEY")

    async with open_store(s3.config()) as store:
        with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID"):
            await store.ping()
        with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID"):
            store.uploads.put("a", content_type="image/png", size_bytes=1, expires_s=9, now=datetime.now(UTC))
        assert not store.state.is_available


async def test_refused_credentials_are_told_from_a_missing_object(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    async with open_store(s3.config()) as store:
        with pytest.raises(Unavailable, match="credentials"):
            await store.head("a")
        with pytest.raises(Unavailable, match="credentials"):
            await store.put("a", b"", content_type="text/plain")


async def test_temporary_credentials_are_renewed_for_presigning_without_any_traffic(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials so close to their end that each look gives new ones; then their source breaks."""
    broken = tmp_path / "broken"
    source = tmp_path / "credentials.sh"
    source.write_text(CREDENTIAL_PROCESS.format(broken=broken, counter=tmp_path / "counter"))
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\ncredential_process = sh {source}\n")
    aws_environment.setenv("AWS_CONFIG_FILE", str(config))
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.delenv("AWS_SECRET_ACCESS_KEY")
    away = s3.config(endpoint_url=f"http://127.0.0.1:{free_port()}")  # watched every second, as it does not answer

    async with open_store(away) as store:
        with trio.fail_after(30):
            first = _signed_by(store)
            second = await _next_signed_by(store, first)
            assert (first[:4], second[:4]) == ("KEY-", "KEY-")
            broken.touch()
            with pytest.raises(Unavailable, match="credentials"):
                await _next_signed_by(store, "nobody", still="KEY-")


CREDENTIAL_PROCESS = """\
[ ! -e {broken} ] || exit 1
echo x >> {counter}
count=$(wc -l < {counter})
end=$(date -u -d '+1 minute' +%Y-%m-%dT%H:%M:%SZ)
keys='"AccessKeyId": "KEY-'$count'", "SecretAccessKey": "s", "SessionToken": "t"'
echo "{{\\"Version\\": 1, $keys, \\"Expiration\\": \\"$end\\"}}"
"""


def _signed_by(store: ObjectStore) -> str:
    url = store.downloads.get("a", expires_s=9, now=datetime.now(UTC))
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


async def _next_signed_by(store: ObjectStore, before: str, *, still: str = "") -> str:
    """Whose signature it is once that is another than before (and, when given, begins otherwise than ``still``)."""
    while True:
        now = _signed_by(store)
        if now != before and not (still and now.startswith(still)):
            return now
        await trio.sleep(0.01)  # a poll: nothing in the service waits for credentials, so there is no event for it


async def test_what_the_block_raises_is_not_wrapped_in_a_group(s3: S3Bucket) -> None:
    with pytest.raises(ObjectMissing):
        async with open_store(s3.config()) as store:
            await store.head("nothing")

"""Files that are read again when they change."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing
import trustme
from structlog.testing import capture_logs

from avion_media.common.credentials import fingerprint, token_name
from avion_media.config import Config
from avion_media.nodes import credential_reload
from avion_media.nodes.credential_reload import ReloadingFiles, open_operators, open_tls, problems_with_files
from avion_media.servers.settings import AdminConfig, GrpcConfig

ONE, TWO = "the-first-of-two-tokens-0123456789", "the-second-of-two-tokens-0123456789"


def number_in(path: Path) -> int:
    return int(path.read_text())


async def test_a_change_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_reload, "_POLL_S", 0.01)
    path = tmp_path / "number"
    path.write_text("1")
    read_again = trio.Event()

    def read() -> int:
        if number_in(path) != 1:
            trio.from_thread.run_sync(read_again.set)
        return number_in(path)

    files = ReloadingFiles((str(path),), read)
    assert files.value == 1
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.watch)
            path.write_text("23")
            await read_again.wait()
            while files.value != 23:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def test_a_swapped_link_is_a_change_although_nothing_else_differs(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    link.symlink_to("1")
    files = ReloadingFiles((str(link),), lambda: number_in(link))
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(link)
    await files.reload_if_changed()
    assert files.value == 2


async def test_a_bad_version_leaves_the_former_until_a_good_one_comes(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    files = ReloadingFiles((str(path),), lambda: number_in(path))
    path.write_text("nonsense")
    await files.reload_if_changed()
    assert files.value == 1
    path.unlink()
    await files.reload_if_changed()
    assert files.value == 1
    path.write_text("2")
    await files.reload_if_changed()
    assert files.value == 2


class Disk:
    """Reads a number; raises ``error`` first, as long as there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: OSError | None = None

    def read(self) -> int:
        if self.error is not None:
            raise self.error
        return number_in(self.path)


async def test_a_change_whose_first_read_failed_is_read_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    disk = Disk(path)
    files = ReloadingFiles((str(path),), disk.read)
    path.write_text("23")
    disk.error = OSError(errno.EMFILE, "Too many open files")
    await files.reload_if_changed()
    assert files.value == 1
    disk.error = None  # the file itself does not change any more
    await files.reload_if_changed()
    assert files.value == 23


async def test_a_revoked_token_ends_although_the_first_read_of_its_file_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{ONE}\n{TWO}\n")
    operators = open_operators(AdminConfig(token_file=str(path)))
    assert operators is not None
    path.write_text(f"{TWO}\n")
    with monkeypatch.context() as failing:
        failing.setattr(credential_reload, "read_tokens", raise_error)
        await operators.reload_if_changed()
    assert fingerprint(ONE) in operators.value
    await operators.reload_if_changed()
    assert set(operators.value) == {fingerprint(TWO)}


def raise_error(path: str) -> NoReturn:
    raise OSError(errno.EIO, "Input/output error", path)


async def test_a_rewrite_of_equal_size_and_time_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    before = path.stat()
    files = ReloadingFiles((str(path),), lambda: number_in(path))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock ticks every few milliseconds
        path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp --preserve` and rsync do
    await files.reload_if_changed()
    assert files.value == 2


async def test_a_file_that_stays_unreadable_is_logged_once_a_minute(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    disk = Disk(path)
    files = ReloadingFiles((str(path),), disk.read)
    path.write_text("23")
    disk.error = OSError(errno.EIO, "Input/output error")
    with capture_logs() as logged:
        for _ in range(90):  # three minutes
            await files.reload_if_changed()
            await trio.sleep(2.0)
        disk.error = None
        await files.reload_if_changed()
        await files.reload_if_changed()
    assert [(line["log_level"], line["event"], line.get("for_s")) for line in logged] == [
        ("error", "credentials.unreadable", 0),
        ("error", "credentials.unreadable", 60),
        ("error", "credentials.unreadable", 120),
        ("info", "credentials.reloaded", None),
    ]


async def test_a_new_certificate_holds_for_new_connections(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    trustme.CA().issue_cert("one.internal").private_key_and_cert_chain_pem.write_to_path(str(path))
    tls = open_tls(GrpcConfig(tls_cert=str(path)))
    assert tls is not None
    first = tls.value
    path.write_text("broken")
    await tls.reload_if_changed()
    assert tls.value is first
    authority = trustme.CA()
    authority.issue_cert("two.internal").private_key_and_cert_chain_pem.write_to_path(str(path))
    await tls.reload_if_changed()
    assert tls.value is not first
    client = ssl.create_default_context()
    authority.configure_trust(client)
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.SSLStream(far, tls.value, server_side=True).do_handshake)
        await trio.SSLStream(near, client, server_hostname="two.internal").do_handshake()


async def test_operators_have_the_token_of_the_setting_and_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{ONE}\n")
    operators = open_operators(AdminConfig.model_validate({"token": TWO, "token_file": str(path)}))
    assert operators is not None
    assert set(operators.value) == {fingerprint(ONE), fingerprint(TWO)}
    path.write_text(f"{ONE} operator Ada\n")
    with capture_logs() as logged:
        await operators.reload_if_changed()
    assert [each["tokens_of"] for each in logged] == [[token_name(fingerprint(TWO)), "Ada"]]
    path.write_text("short")
    await operators.reload_if_changed()
    assert fingerprint(ONE) in operators.value
    assert open_operators(AdminConfig()) is None


@pytest.mark.parametrize("content", [None, "", "[callers", "[callers.x]\nmethods = ['*']\ntokens_sha256 = ['secret']"])
def test_what_is_wrong_with_files_is_told_before_the_start(tmp_path: Path, content: str | None) -> None:
    callers, token = tmp_path / "callers.toml", tmp_path / "token"
    if content is not None:
        callers.write_text(content)
        token.write_text("short")
    config = Config(
        grpc=GrpcConfig(auth="token", callers_file=str(callers), tls_cert=str(tmp_path / "no-such.pem")),
        admin=AdminConfig(token_file=str(token)),
    )
    problems = problems_with_files(config, frozenset({"grpc"}))
    assert [problem.partition(":")[0].removeprefix("AVION_MEDIA_") for problem in problems] == [
        "ADMIN__TOKEN_FILE",
        "GRPC__TLS_CERT",
        "GRPC__CALLERS_FILE",
    ]
    assert "secret" not in str(problems)
    assert len(problems_with_files(config, frozenset({"http"}))) == 1
    assert problems_with_files(Config(), frozenset({"grpc"})) == []

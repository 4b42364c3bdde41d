"""`Sandbox.execute`: the real ffmpeg, confined."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from avion_media.domain.errors import Reason, Rejected, Unavailable
from avion_media.media.sandbox import Completed, Limits, landlock
from avion_media.media.sandbox.sandbox import Sandbox, open_sandbox

HARD_LIMIT_S = 60
QUIET = ("ffmpeg", "-nostdin", "-v", "error")
TEST_PICTURE = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=1")


async def _ffmpeg(sandbox: Sandbox, limits: Limits, *arguments: str, max_stdout_bytes: int = 1 << 16) -> Completed:
    """Run ffmpeg without any of our own restrictions on protocols: the sandbox alone must hold."""
    with trio.fail_after(HARD_LIMIT_S):
        return await sandbox.execute([*QUIET, *arguments], files={}, limits=limits, max_stdout_bytes=max_stdout_bytes)


async def test_output_return_code_and_usage_come_back(sandbox: Sandbox, limits: Limits) -> None:
    done = await _ffmpeg(
        sandbox, limits, *TEST_PICTURE, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"
    )
    assert (done.returncode, len(done.stdout), done.stderr, done.stopped) == (0, 64 * 64, b"", False)
    assert done.usage.cpu_s > 0
    assert done.usage.peak_rss_bytes > 1 << 20


async def test_a_failing_program_is_no_error_of_the_sandbox(sandbox: Sandbox, limits: Limits) -> None:
    done = await _ffmpeg(sandbox, limits, "-i", "no-such-file", "-f", "null", "-")
    assert done.returncode != 0
    assert b"no-such-file" in done.stderr


async def test_files_have_the_numbers_they_were_given(sandbox: Sandbox, limits: Limits) -> None:
    arguments = [*QUIET, "-f", "rawvideo", "-pix_fmt", "gray", "-s", "2x2", "-fd", "7", "-i", "fd:"]
    arguments += ["-f", "rawvideo", "-fd", "5", "fd:"]
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(b"\x10\x20\x30\x40")
        source.seek(0)
        files = {7: source.fileno(), 5: target.fileno()}
        done = await sandbox.execute(arguments, files=files, limits=limits, max_stdout_bytes=0)
        assert (done.returncode, done.stderr) == (0, b"")
        assert os.pread(target.fileno(), 100, 0) == b"\x10\x20\x30\x40"


@pytest.mark.parametrize(
    "protocol",
    ["http://127.0.0.1:{port}/x", "tcp://127.0.0.1:{port}", "udp://127.0.0.1:{port}", "rtmp://127.0.0.1:{port}/x"],
)
async def test_no_connection_leaves_the_sandbox(sandbox: Sandbox, limits: Limits, protocol: str) -> None:
    async with trio.open_nursery() as nursery:
        accepted: list[trio.SocketStream] = []
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]

        async def accept() -> None:
            async with listener:
                accepted.append(await listener.accept())

        nursery.start_soon(accept)
        done = await _ffmpeg(sandbox, limits, "-i", protocol.format(port=port), "-f", "null", "-")
        assert done.returncode != 0
        assert b"Function not implemented" in done.stderr  # socket(2) does not exist
        assert not accepted
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/1/cmdline", "/bin/sh"])
async def test_no_file_is_read(sandbox: Sandbox, limits: Limits, path: str) -> None:
    done = await _ffmpeg(
        sandbox, limits, "-f", "rawvideo", "-s", "1x1", "-pix_fmt", "gray", "-i", path, "-f", "null", "-"
    )
    assert (b"Permission denied" in done.stderr) is bool(landlock.abi())  # the gap that SANDBOX__REQUIRE is about


async def test_no_file_is_written(sandbox: Sandbox, limits: Limits, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    target = tmp_path / "picture.raw"
    done = await _ffmpeg(sandbox, limits, *TEST_PICTURE, "-frames:v", "1", "-f", "rawvideo", "-y", str(target))
    assert done.returncode != 0
    assert not target.exists()


async def test_too_much_output_is_cut_and_killed(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(Rejected) as caught:
        await _ffmpeg(sandbox, limits, *TEST_PICTURE, "-f", "rawvideo", "pipe:1", max_stdout_bytes=10_000)
    assert caught.value.reason is Reason.DECODER_LIMIT


async def test_a_program_is_stopped_once_its_output_suffices(sandbox: Sandbox, limits: Limits) -> None:
    with trio.fail_after(HARD_LIMIT_S):
        done = await sandbox.execute(
            [*QUIET, *TEST_PICTURE, "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"],
            files={},
            limits=limits,
            max_stdout_bytes=1 << 24,
            enough=lambda output: len(output) >= 3 * 64 * 64,
        )
    assert done.stopped
    assert done.returncode == 0
    assert len(done.stdout) >= 3 * 64 * 64


async def test_complaints_are_kept_up_to_a_bound(sandbox: Sandbox, limits: Limits) -> None:
    done = await _ffmpeg(sandbox, limits, "-v", "trace", *TEST_PICTURE, "-frames:v", "50", "-f", "null", "-")
    assert len(done.stderr) == 8 << 10


async def test_memory_of_a_program_is_limited(sandbox: Sandbox, limits: Limits) -> None:
    frame_bytes = 8192 * 8192 * 6
    with tempfile.TemporaryFile() as source:
        source.truncate(frame_bytes)
        arguments = [*QUIET, "-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "8192x8192", "-fd", "3", "-i", "fd:"]
        done = await sandbox.execute(
            [*arguments, "-f", "null", "-"], files={3: source.fileno()}, limits=limits, max_stdout_bytes=0
        )
    assert b"Cannot allocate memory" in done.stderr  # it still calls that a success: judge by what was written


async def test_time_of_a_program_is_limited(sandbox: Sandbox, limits: Limits) -> None:
    endless = (*TEST_PICTURE, "-f", "null", "-")
    with pytest.raises(Rejected) as caught:
        await _ffmpeg(sandbox, replace(limits, wall_s=0.5), *endless)
    assert caught.value.reason is Reason.DECODER_LIMIT
    with pytest.raises(Rejected) as caught:
        await _ffmpeg(sandbox, replace(limits, cpu_s=1), *endless)
    assert caught.value.reason is Reason.DECODER_LIMIT


async def test_a_cancelled_program_is_gone(sandbox: Sandbox, limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as output, trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def run() -> None:
                arguments = [*QUIET, *TEST_PICTURE, "-f", "rawvideo", "-fd", "4", "fd:"]
                with scope:
                    await sandbox.execute(arguments, files={4: writer}, limits=limits, max_stdout_bytes=0)

            nursery.start_soon(run)
            assert await output.receive_some(1) != b""
            os.close(writer)
            scope.cancel()
            while await output.receive_some(1 << 16):
                pass  # what it had written; the end comes only when its descriptor is closed, that is: it is dead
    assert sandbox.admission.used_bytes == 0


async def test_only_named_programs_run(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(Unavailable, match="not an allowed program"):
        await sandbox.execute(["sh", "-c", "exit 0"], files={}, limits=limits, max_stdout_bytes=0)


async def test_descriptors_of_the_sandbox_itself_cannot_be_taken(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(ValueError, match="between 3 and 99"):
        await sandbox.execute(["ffmpeg"], files={1: 0}, limits=limits, max_stdout_bytes=0)


async def test_missing_programs_are_reported_and_unavailable(limits: Limits, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    names = ("no-such-program", str(script))
    async with open_sandbox(budget_bytes=1 << 30, programs=names) as sandbox:
        assert set(sandbox.report.missing_programs) == set(names)
        with pytest.raises(Unavailable, match="no-such-program"):
            await sandbox.execute(["no-such-program"], files={}, limits=limits, max_stdout_bytes=0)
        with pytest.raises(Unavailable, match="not a 64-bit ELF program"):
            await sandbox.execute([str(script)], files={}, limits=limits, max_stdout_bytes=0)

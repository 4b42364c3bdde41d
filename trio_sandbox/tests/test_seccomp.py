"""The system call filter, run by a small interpreter of their own language: what each decides, without a kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

import pytest

from trio_sandbox import seccomp
from trio_sandbox.seccomp import AUDIT_ARCH, NUMBERS

PID = 4711
ALLOW = 0x7FFF0000
KILL = 0x80000000
DENY = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS
IOCTL_X86_64, IOCTL_AARCH64 = 16, 29

CLONE_THREAD, CLONE_VM, SIGCHLD = 0x10000, 0x100, 17
JOB = seccomp.job_filter(PID)


def decide(program: bytes, number: int, *arguments: int, arch: int | None = AUDIT_ARCH) -> int:
    """What the filter answers to a system call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number, arch or 0, 0, *padded)
    code = [struct.unpack_from("<HBBI", program, offset) for offset in range(0, len(program), 8)]
    position = accumulator = 0
    while True:
        operation, if_true, if_false, operand = code[position]
        position += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x15:
            position += if_true if accumulator == operand else if_false
        else:
            assert operation == 0x06
            return int(operand)


@pytest.mark.parametrize("name", ["read", "write", "mmap", "munmap", "futex", "exit_group", "close", "fstat"])
def test_the_daily_bread_is_allowed(name: str) -> None:
    assert decide(JOB, NUMBERS[name]) == ALLOW


@pytest.mark.parametrize("name", ["execve", "execveat", "kill", "tkill", "clone3", "seccomp"])
def test_what_is_not_listed_does_not_exist(name: str) -> None:
    assert decide(JOB, NUMBERS[name]) == ABSENT


def test_extra_calls_are_allowed_whatever_the_list_makes_of_them() -> None:
    program = seccomp.job_filter(PID, [NUMBERS["kill"], NUMBERS["openat"], NUMBERS["prctl"]])
    for name in ("kill", "openat", "prctl", "read"):
        assert decide(program, NUMBERS[name], 1, 2, 3) == ALLOW
    assert decide(program, NUMBERS["tkill"]) == ABSENT
    assert decide(program, NUMBERS["kill"], arch=0x40000003) == KILL


def test_every_call_beyond_the_list_is_absent() -> None:
    allowed = {number for number in range(1024) if decide(JOB, number) == ALLOW}
    assert allowed <= set(NUMBERS.values())
    assert len(allowed) < 100


def test_threads_but_no_processes() -> None:
    assert decide(JOB, NUMBERS["clone"], CLONE_VM | CLONE_THREAD) == ALLOW
    assert decide(JOB, NUMBERS["clone"], SIGCHLD) == DENY
    assert decide(JOB, NUMBERS["clone"], CLONE_VM | SIGCHLD) == DENY


def test_only_itself_may_be_signalled_and_limited() -> None:
    assert decide(JOB, NUMBERS["tgkill"], PID, PID, 6) == ALLOW
    assert decide(JOB, NUMBERS["tgkill"], 1, 1, 9) == DENY
    assert decide(JOB, NUMBERS["prlimit64"], 0) == ALLOW
    assert decide(JOB, NUMBERS["prlimit64"], PID + 1) == DENY


def test_descriptors_are_duplicated_but_send_no_signals() -> None:
    for command in (fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFL, fcntl.F_SETFD):
        assert decide(JOB, NUMBERS["fcntl"], 3, command) == ALLOW
    f_setown_ex = 15
    for command in (fcntl.F_SETOWN, fcntl.F_SETSIG, f_setown_ex, fcntl.F_SETLEASE, fcntl.F_NOTIFY):
        assert decide(JOB, NUMBERS["fcntl"], 3, command) == DENY


def test_the_flags_of_a_file_are_changed_only_to_not_block() -> None:
    for flags in (0, os.O_NONBLOCK, os.O_RDWR | os.O_NONBLOCK):
        assert decide(JOB, NUMBERS["fcntl"], 3, fcntl.F_SETFL, flags) == ALLOW
    for flag in (os.O_APPEND, os.O_DIRECT, os.O_ASYNC, os.O_NOATIME, os.O_DSYNC):
        assert decide(JOB, NUMBERS["fcntl"], 3, fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK | flag) == DENY


def test_other_architectures_are_killed() -> None:
    assert decide(JOB, NUMBERS["read"], arch=0x40000003) == KILL  # i386, whose numbers mean other calls


@pytest.mark.parametrize("name", ["openat", "readlinkat", "faccessat", "getdents64", "statfs", "newfstatat", "statx"])
def test_a_job_reaches_no_path(name: str) -> None:
    assert decide(JOB, NUMBERS[name]) == DENY


def test_a_job_may_ask_for_the_attributes_of_a_descriptor() -> None:
    assert decide(JOB, NUMBERS["newfstatat"], 5, 0, 0, 0x1000) == ALLOW
    assert decide(JOB, NUMBERS["newfstatat"], 5, 0, 0, 0) == DENY


def test_a_job_maps_no_new_code() -> None:
    read, write, execute = 1, 2, 4
    for name in ("mmap", "mprotect"):
        assert decide(JOB, NUMBERS[name], 0, 4096, read | write) == ALLOW
        assert decide(JOB, NUMBERS[name], 0, 4096, read | execute) == DENY

"""The system call filter: a call that is not on the list does not exist.

It is an allow list, because a list of forbidden calls is out of date with every kernel. A missing call returns ENOSYS,
so that a C library falls back to an older call (it must for ``clone3``, whose flags a filter cannot see). A call with
forbidden arguments returns EPERM, and so do a job's look-ups of paths: to Python that means "not found", as in a search
for modules. Nothing here opens a socket, starts a process, signals another one, traces, mounts, or loads code into the
kernel: io_uring, bpf, ptrace and keyrings are simply absent.

Jobs get all they need as descriptors, and thus may open no path at all and map no new code.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from fcntl import F_DUPFD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_SETFD, F_SETFL
from typing import Final

from trio_sandbox.kernel import PR_SET_NAME, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl

# Of each call its name and its numbers on x86_64 and on aarch64, or a dash where it does not exist.
_ALLOWED: Final = """
read 0 63               write 1 64              readv 19 65             writev 20 66
pread64 17 67           pwrite64 18 68          preadv 295 69           pwritev 296 70
lseek 8 62              close 3 57              fstat 5 80              dup 32 23
dup2 33 -               dup3 292 24             ftruncate 77 46         fadvise64 221 223
fsync 74 82             fdatasync 75 83         fallocate 285 47        copy_file_range 326 285
sendfile 40 71          fstatfs 138 44          munmap 11 215           mremap 25 216
madvise 28 233          brk 12 214              membarrier 324 283      mincore 27 232
futex 202 98            rseq 334 293            set_robust_list 273 99  get_robust_list 274 100
set_tid_address 218 96  exit 60 93              exit_group 231 94       restart_syscall 219 128
sched_yield 24 124      sched_getparam 143 121  sched_getaffinity 204 123
getcpu 309 168          sched_getscheduler 145 120
rt_sigaction 13 134     rt_sigprocmask 14 135   rt_sigreturn 15 139     sigaltstack 131 132
nanosleep 35 101        clock_nanosleep 230 115 clock_gettime 228 113   clock_getres 229 114
gettimeofday 96 169     time 201 -              times 100 153           getrusage 98 165
getpid 39 172           gettid 186 178          getppid 110 173         getuid 102 174
geteuid 107 175         getgid 104 176          getegid 108 177         getpgrp 111 -
getpgid 121 155         getsid 124 156          uname 63 160            sysinfo 99 179
getrandom 318 278       getrlimit 97 163        getcwd 79 17            poll 7 -
ppoll 271 73            select 23 -             pselect6 270 72         eventfd2 290 19
pipe2 293 59
"""
_BY_PATH: Final = """
open 2 -                openat 257 56           stat 4 -                lstat 6 -
statfs 137 43           readlink 89 -           readlinkat 267 78       getdents64 217 61
access 21 -             faccessat 269 48        faccessat2 439 439
"""
# Allowed with some arguments only; see `job_filter`.
_CONDITIONAL: Final = """
clone 56 220            tgkill 234 131          prctl 157 167           fcntl 72 25
prlimit64 302 261       mmap 9 222              mprotect 10 226         newfstatat 262 79
statx 332 291
"""
# Not for jobs: of what the service itself calls, what the self-test tries, and what tests check.
_OTHER: Final = """
clone3 435 435          kill 62 129             tkill 200 130           execve 59 221
execveat 322 281        seccomp 317 277
landlock_create_ruleset 444 444                 landlock_restrict_self 446 446
"""


def _numbers_of(table: str) -> dict[str, int]:
    words = table.split()
    column = {"x86_64": words[1::3], "aarch64": words[2::3]}.get(platform.machine(), [])
    return {name: int(number) for name, number in zip(words[::3], column, strict=False) if number != "-"}


NUMBERS: Final = _numbers_of(_ALLOWED + _BY_PATH + _CONDITIONAL + _OTHER)
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine())

_AT_EMPTY_PATH: Final = 0x1000
_CLONE_THREAD: Final = 0x10000
_PROT_EXEC: Final = 0x4
# Duplicates, flags and seals. Not F_SETOWN and its like: the owner of a pipe gets its signals, and kills its fellows
# (without root, all sandboxes are of one user; Landlock knows signals from version 6 only).
_FCNTL: Final = (F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_GET_SEALS)
# What F_SETFL may give: O_NONBLOCK, and what F_GETFL returns and F_SETFL ignores. Not O_APPEND, O_DIRECT or O_ASYNC: a
# file's flags are the same in the service, whose reads and writes of it could then fail.
_LARGE_FILE: Final = {"x86_64": 0o100000, "aarch64": 0o400000}.get(platform.machine(), 0)
_FLAGS: Final = os.O_NONBLOCK | os.O_ACCMODE | _LARGE_FILE

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16  # in struct seccomp_data


def available() -> bool:
    """Return whether this architecture's numbers are known and the kernel filters system calls."""
    try:
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)  # of no filter, which is not even read where there are none
    except OSError as error:
        return bool(NUMBERS) and error.errno == errno.EFAULT
    return False


def job_filter(pid: int, extra_calls: Sequence[int] = ()) -> bytes:
    """Return the filter (little-endian BPF) for a job in process ``pid``, with ``extra_calls`` (numbers) allowed."""
    assert AUDIT_ARCH is not None
    code = [
        _instruction(_LOAD, _OFFSET_ARCH),
        _instruction(_JUMP_EQUAL, AUDIT_ARCH, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _OFFSET_NUMBER),
    ]
    allowed = (*extra_calls, *_numbers_of(_ALLOWED).values())
    for numbers, answer in ((allowed, _ALLOW), (_numbers_of(_BY_PATH).values(), _ERRNO | errno.EPERM)):
        for number in numbers:
            code += [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, answer)]
    code += _only("clone", 0, (_CLONE_THREAD,), _CLONE_THREAD)  # threads, never processes
    code += _only("tgkill", 0, (pid,))  # abort() and raise()
    code += _only("prctl", 0, (PR_SET_NAME,))
    code += _only("fcntl", 1, _FCNTL, others=_if_both(1, F_SETFL, 2, ~_FLAGS))
    code += _only("prlimit64", 0, (0,))  # the limits are hard: it can only read or lower its own
    code += _only("mmap", 2, (0,), _PROT_EXEC)
    code += _only("mprotect", 2, (0,), _PROT_EXEC)
    code += _only("newfstatat", 3, (_AT_EMPTY_PATH,), _AT_EMPTY_PATH)
    code += _only("statx", 2, (_AT_EMPTY_PATH,), _AT_EMPTY_PATH)
    code.append(_instruction(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(code)


def install(program: bytes) -> None:
    """Filter this process from now on. Needs no_new_privs."""
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog, 64 bit
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head)


def _only(
    name: str, index: int, values: tuple[int, ...], mask: int = 0xFFFFFFFF, others: Sequence[bytes] = ()
) -> list[bytes]:
    """Allow ``name`` only if argument ``index`` (its low 32 bits) masked by ``mask`` is one of ``values``.

    ``others`` follow, which may allow further values.
    """
    steps = [_instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * index), _instruction(_AND, mask)]
    for value in values:
        steps += [_instruction(_JUMP_EQUAL, value, 0, 1), _instruction(_RETURN, _ALLOW)]
    steps += [*others, _instruction(_RETURN, _ERRNO | errno.EPERM)]
    return [_instruction(_JUMP_EQUAL, NUMBERS[name], 0, len(steps)), *steps]


def _if_both(index: int, value: int, other: int, unset: int) -> list[bytes]:
    """Allow a call whose argument ``index`` is ``value``, if argument ``other`` has none of the bits ``unset``."""
    return [
        _instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * index),
        _instruction(_JUMP_EQUAL, value, 0, 4),
        _instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * other),
        _instruction(_AND, unset & 0xFFFFFFFF),
        _instruction(_JUMP_EQUAL, 0, 0, 1),
        _instruction(_RETURN, _ALLOW),
    ]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)

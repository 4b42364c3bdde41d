"""The privileges that a child gives up before it reads untrusted bytes, in the required order.

The protections, from the outside in:

- *Limits*: address space, CPU, file size, descriptors, no core dump (rlimits); killed by the fork server at its
  deadline, by the kernel when the fork server dies; first choice of the OOM killer; lower priority than the service.
- *Identity*: instead of root a user of its own, with a limit on its threads; no new privileges ever, no environment,
  only the given descriptors, not traceable by other children.
- *Reach*: the system call filter (see `seccomp`) denies every socket, every process and signal, every file by name and
  every program. Landlock (files by name, TCP, abstract sockets, signals) overlaps with it on purpose; the filter denies
  what a kernel's version of it does not handle. It never covers open descriptors, a child's input and output.

Not prevented: a hijacked child can return anything, and change every file that it was given for writing. Callers treat
results as hostile input, and pass sources with `read_only`.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from typing import Final

from trio_sandbox import kernel, seccomp
from trio_sandbox.messages import Limits, SandboxReport
from trio_sandbox.seccomp import NUMBERS

_NO_GROUP: Final = 65534
# Ids that systemd leaves unused (systemd.io/UIDS-GIDS), and that a user namespace of 65 536 ids has.
USERS: Final = range(60578, 61184)
_MAX_THREADS: Final = 64  # libraries start two or three
_NICENESS: Final = 5
_NEEDED_CAPABILITIES: Final = 1 << 5 | 1 << 6 | 1 << 7  # CAP_KILL, CAP_SETGID, CAP_SETUID
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

# Of Landlock.
_CREATE_VERSION: Final = 1
_LOG_SAME_EXEC_OFF: Final = 1  # else a child could flood the audit log with its denials
_ACCESSES_SINCE: Final = ((1, 13), (2, 14), (3, 15), (5, 16))  # interface version, number of kinds of file access
_TCP_SINCE, _NETWORK_TCP = 4, 0b11  # bind, connect
_SCOPES_SINCE, _SCOPES = 6, 0b11  # abstract Unix sockets, signals


def find_means() -> SandboxReport:
    """Return the protections of this machine, without a test for gaps."""
    return SandboxReport(_landlock_abi(), seccomp.available(), os.geteuid() == 0 and _may_change_user())


def landlock_ruleset(abi: int) -> int:
    """Return a ruleset (descriptor, close-on-exec), with which nothing is reached. Each child enters it."""
    files = (1 << max(kinds for since, kinds in _ACCESSES_SINCE if since <= abi)) - 1
    known = 1 + (abi >= _TCP_SINCE) + (abi >= _SCOPES_SINCE)  # fields of the structure
    attributes = struct.pack("QQQ", files, _NETWORK_TCP, _SCOPES)[: 8 * known]
    return kernel.syscall(NUMBERS["landlock_create_ruleset"], attributes, len(attributes), 0)


def bound(limits: Limits) -> None:
    """Set the rlimits. Memory counts from what is mapped now."""
    with open("/proc/self/statm", "rb") as statm:
        mapped_pages = int(statm.read().split()[0])
    _limit(resource.RLIMIT_AS, mapped_pages * _PAGE + limits.memory_bytes)
    cpu_s = max(1, round(limits.cpu_s + 0.499))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # SIGXCPU, and SIGKILL should that be blocked
    _limit(resource.RLIMIT_FSIZE, limits.output_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.max_files)
    _limit(resource.RLIMIT_CORE, 0)


def give_up_identity(means: SandboxReport, user: int, fork_server_pid: int) -> None:
    """Become ``user`` (if root), die with the fork server, and never gain privileges again.

    The kernel counts the threads of a user, so one of its own is needed to limit those of a process.
    """
    kernel.open_to_others()  # inherited from the fork server; without root, the next file is closed to us otherwise
    with open("/proc/self/oom_score_adj", "wb") as score:
        score.write(b"1000")
    os.nice(_NICENESS)
    if means.drops_root:
        _limit(resource.RLIMIT_NPROC, _MAX_THREADS)
        os.setgroups([])
        os.setresgid(_NO_GROUP, _NO_GROUP, _NO_GROUP)
        os.setresuid(user, user, user)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    if os.getppid() != fork_server_pid:
        os._exit(1)  # the fork server died before the line above
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.close_to_others()


def give_up_reach(means: SandboxReport, ruleset: int, program: bytes) -> None:
    """Enter the Landlock ruleset (a descriptor, closed here) and the system call filter."""
    if means.landlock_abi:
        options = _LOG_SAME_EXEC_OFF if means.landlock_abi >= 7 else 0
        kernel.syscall(NUMBERS["landlock_restrict_self"], ruleset, options)
        os.close(ruleset)
    if means.seccomp:
        seccomp.install(program)


def _landlock_abi() -> int:
    try:
        return kernel.syscall(NUMBERS["landlock_create_ruleset"], None, 0, _CREATE_VERSION)
    except (KeyError, OSError):
        return 0


def _may_change_user() -> bool:
    """Return whether root can become another user, and kill its processes. A container may lack the capabilities."""
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return effective & _NEEDED_CAPABILITIES == _NEEDED_CAPABILITIES


def _limit(which: int, value: int) -> None:
    """Set the soft and hard limit, never above the present hard limit, which a container may have set."""
    _, hard = resource.getrlimit(which)
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bounded, bounded))

"""What each of the two walls holds alone, on kernels or in containers that lack the other one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from avion_media.media.sandbox import landlock

# Runs in a process of its own, since nothing of this can be taken back.
SCRIPT = """
import json, os, sys
from avion_media.media.sandbox import confinement, landlock, seccomp, selftest
as_program, with_landlock, with_seccomp = json.loads(sys.argv[1])
version = landlock.abi() if with_landlock else 0
means = confinement.Means(version, with_seccomp, confinement.find_means().drops_root)
ruleset = -1
if version:
    ruleset = confinement.prepare(sys.argv[2], version).ruleset if as_program else landlock.nothing_reachable(version)
rules = seccomp.program_filter(os.getpid(), 1000) if as_program else seccomp.job_filter(os.getpid())
confinement.give_up_identity(means, os.getppid())
confinement.give_up_reach(means, ruleset, rules)
print(json.dumps(selftest.gaps(selftest.probe({"service_pid": os.getppid()}, []), as_program=as_program)))
"""
FILES = {"read /etc/passwd", "read /proc"}
LANDLOCK = landlock.abi() > 0
SOCKETS = {"socket AF_INET", "socket AF_INET6", "socket AF_UNIX", "socket pair"}


def _gaps(*, as_program: bool, with_landlock: bool, with_seccomp: bool) -> set[str]:
    choice = json.dumps([as_program, with_landlock, with_seccomp])
    command = [sys.executable, "-P", "-c", SCRIPT, choice, "/usr/bin/ffmpeg"]
    done = subprocess.run(
        command, capture_output=True, check=True, timeout=30, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("as_program", [False, True])
def test_what_this_machine_has_leaves_no_gap_but_those_of_a_kernel_without_landlock(as_program: bool) -> None:
    gaps = _gaps(as_program=as_program, with_landlock=True, with_seccomp=True)
    assert gaps == (FILES if as_program and not LANDLOCK else set())


def test_the_filter_alone_holds_jobs_completely() -> None:
    assert _gaps(as_program=False, with_landlock=False, with_seccomp=True) == set()


def test_the_filter_alone_lets_programs_read_what_nobody_may_read() -> None:
    assert _gaps(as_program=True, with_landlock=False, with_seccomp=True) == FILES


@pytest.mark.parametrize("as_program", [False, True])
def test_landlock_alone_keeps_files_but_neither_sockets_nor_processes(as_program: bool) -> None:
    if not LANDLOCK:  # then nothing holds: the attempt at another program would be the end of this one
        with pytest.raises(OSError, match="not implemented"):
            landlock.nothing_reachable(1)
        return
    gaps = _gaps(as_program=as_program, with_landlock=True, with_seccomp=False)
    assert not gaps & {*FILES, "read /usr/lib", "write /tmp", "make a folder", "execute", "signal the service"}
    assert gaps >= {*SOCKETS, "fork"}

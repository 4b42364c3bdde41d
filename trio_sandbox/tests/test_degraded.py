"""What each of the two walls holds alone, on kernels or in containers that lack the other one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from trio_sandbox import confinement

# Runs in a process of its own, since nothing of this can be taken back.
SCRIPT = """
import json, os, sys
from trio_sandbox import confinement, seccomp, selftest
from trio_sandbox.messages import SandboxReport
with_landlock, with_seccomp = json.loads(sys.argv[1])
there = confinement.find_means()
version = there.landlock_abi if with_landlock else 0
means = SandboxReport(version, with_seccomp, there.drops_root)
ruleset = confinement.landlock_ruleset(version) if version else -1
confinement.give_up_identity(means, confinement.USERS[0], os.getppid())
confinement.give_up_reach(means, ruleset, seccomp.job_filter(os.getpid()))
print(json.dumps(selftest.probe({"service_pid": os.getppid()}, [])))
"""
FILES = {"read /usr/lib", "read /etc/passwd", "read /proc", "write /tmp", "make a folder"}
LANDLOCK = confinement.find_means().landlock_abi > 0
SOCKETS = {"socket AF_INET", "socket AF_INET6", "socket AF_UNIX", "socket pair"}


def _gaps(*, with_landlock: bool, with_seccomp: bool) -> set[str]:
    command = [sys.executable, "-P", "-c", SCRIPT, json.dumps([with_landlock, with_seccomp])]
    done = subprocess.run(
        command, capture_output=True, check=True, timeout=30, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("with_landlock", [False, True])
def test_with_the_filter_there_is_no_gap(with_landlock: bool) -> None:
    assert _gaps(with_landlock=with_landlock, with_seccomp=True) == set()


def test_landlock_alone_keeps_files_but_neither_sockets_nor_processes() -> None:
    if not LANDLOCK:  # then nothing holds: the attempt at another program would be the end of this one
        with pytest.raises(OSError, match="not implemented"):
            confinement.landlock_ruleset(1)
        return
    gaps = _gaps(with_landlock=True, with_seccomp=False)
    assert not gaps & {*FILES, "execute", "signal the service"}
    assert gaps >= {*SOCKETS, "fork"}

"""What the kernel of this machine can do for the sandbox. Tests run on both kinds."""

from __future__ import annotations

import os

from trio_sandbox.confinement import find_means


def confines_fully() -> bool:
    """Whether ``require`` can be met here."""
    means = find_means()
    return means.seccomp and (means.drops_root or os.geteuid() != 0)

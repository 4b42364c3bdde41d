"""The wall clock of some processes, which a test moves while they run."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.services.process import require

_FORM = "l"


class ShiftedClock:
    """The clock of all processes that start in ``environment``. It begins at the present time."""

    def __init__(self, directory: Path) -> None:
        library, self._shift = directory / "shifted_clock.so", directory / "shift"
        source = Path(__file__).with_name("shifted_clock.c")
        subprocess.run([require("cc", "gcc"), "-shared", "-fPIC", "-o", library, source], check=True)
        self._shift.write_bytes(bytes(struct.calcsize(_FORM)))
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._shift)}

    def set_ahead(self, seconds: int) -> None:
        """Let the clock be so far ahead of the present time."""
        with self._shift.open("r+b") as mapped:  # in place, because no process must find it empty
            mapped.write(struct.pack(_FORM, seconds))

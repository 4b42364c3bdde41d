"""``python -m tests.services run -- COMMAND…``: COMMAND with a Ceph beside it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

from tests.services import ServiceFailed, ceph

_USAGE_ERROR = 2


def main() -> int:
    """Exit status of the command; 2 when a service could not be started."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("action", choices=["run"])
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    arguments = parser.parse_args()
    # As an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    started = time.monotonic()
    try:
        with ceph() as s3:
            print(f"Ceph is up after {time.monotonic() - started:.1f} s: {s3.endpoint_url}", file=sys.stderr)
            return _run(arguments.command, os.environ | s3.to_environment())
    except ServiceFailed as error:
        print(f"a test service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR


def _run(command: list[str], environ: dict[str, str]) -> int:
    # Should this process be killed, the command ends as well.
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *command], env=environ) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the terminal sent it to the command too: wait for its own end
            except SystemExit:
                process.terminate()
                process.wait()
                raise


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.crash``: all crash points. ``--kind`` and ``--only TEXT`` select some; ``--lanes`` speeds it up."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.crash.lane import open_lane
from tests.crash.points import KINDS, count_points, report, try_all
from tests.services import ceph, s3_address_from


def main() -> int:
    """Return 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kind", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--skip", type=int, default=0, help="go on after so many of them, where a run was interrupted")
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--sample", type=int, default=0, help="try so many of them, chosen by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", action="store_true", help="print the logs of failed points")
    arguments = parser.parse_args()
    started = time.monotonic()
    with ceph() as own_or_shared:
        s3 = s3_address_from() or own_or_shared
        with open_lane(s3) as lane:
            points = count_points(lane, [each for each in KINDS if arguments.kind in each.name])
        wanted = [each for each in points if arguments.only in str(each)]
        if arguments.sample:
            wanted = random.Random(arguments.seed).sample(wanted, min(arguments.sample, len(wanted)))
        wanted = wanted[arguments.skip :]
        print(f"{len(points)} crash points, {len(wanted)} to be tried", flush=True)
        failed = report(try_all(s3, wanted, arguments.lanes), len(wanted))
    if arguments.logs:
        for outcome in failed:
            print(f"--- {outcome.point}\n{outcome.log[-6000:]}")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

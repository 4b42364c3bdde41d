"""``python -m tests.fuzz [--seconds N] [--seed S] [NAME…]``: the exit status is 1 when something was found."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.fuzz.session import Finding, Session, Target
from tests.fuzz.targets import all_targets


def main() -> int:
    """Fuzz what is named, or everything, one after the other; each gets its share of the time."""
    targets = all_targets()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(targets)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of them together")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same inputs")
    arguments = parser.parse_args()
    unknown = sorted({*arguments.names} - targets.keys())
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)} (there are: {', '.join(targets)})")
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    chosen = [targets[name] for name in arguments.names] or list(targets.values())
    per_weight = arguments.seconds / sum(target.weight for target in chosen)
    print(f"fuzzing {len(chosen)} targets for {arguments.seconds:g} s in all, seed {seed}", flush=True)
    found = [target.name for target in chosen if not fuzz(target, target.weight * per_weight, seed)]
    if found:
        print(f"\nfound something: {', '.join(found)}", file=sys.stderr)
    return 1 if found else 0


def fuzz(target: Target, seconds: float, seed: int) -> bool:
    """Run one target and print what came out; whether it held."""
    session = Session(target.name, seconds, seed)
    started = time.monotonic()
    try:
        target.run(session)
        verdict = "ok"
    except Finding as finding:
        verdict = f"FOUND\n{finding}"
    took_s = time.monotonic() - started
    figures = "".join(f", {name} {value}" for name, value in session.figures.items())
    print(f"  {target.name:<20} {session.inputs:>9} inputs in {took_s:6.1f} s{figures}: {verdict}", flush=True)
    return verdict == "ok"


if __name__ == "__main__":
    sys.exit(main())

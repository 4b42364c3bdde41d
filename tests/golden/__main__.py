"""``python -m tests.golden record|compare FILE [DIRECTORY…]``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import trio

from mediascrub import Format
from tests.fuzz.mutation import mutated
from tests.fuzz.samples import IMAGE_FORMATS, VIDEO_FORMATS, images, labelled, videos
from tests.golden.outcomes import Outcome, opened, picture, plan

_DATA = Path(__file__).parents[1] / "data"
_ALLOWED = Path(__file__).with_name("allowed.toml")
_MUTATIONS = 4000  # of pictures, and as many of videos
_MAX_PICTURE_BYTES, _MAX_VIDEO_BYTES = 64 << 10, 256 << 10
Record = dict[str, Outcome]


def main() -> int:
    """Record or compare; 1 when something differs that is not allowed."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("directories", type=Path, nargs="*")
    parser.add_argument("--only", default="*", help="names of files and seeds, as a pattern")
    arguments = parser.parse_args()
    found = _run([_DATA, *arguments.directories], arguments.only)
    if arguments.action == "record":
        arguments.file.write_text(json.dumps(found, indent=0, sort_keys=True))
        print(f"{len(found)} outcomes recorded")
        return 0
    before = {
        name: outcome
        for name, outcome in json.loads(arguments.file.read_text()).items()
        if fnmatch.fnmatch(name, arguments.only)
    }
    return _compare(before, found)


def _run(directories: Sequence[Path], only: str) -> Record:
    found: Record = {}
    for name, outcome in _seeds("picture", images(), IMAGE_FORMATS, picture, _MAX_PICTURE_BYTES, only):
        found[name] = outcome
    for name, outcome in _seeds("video", videos(), VIDEO_FORMATS, plan, _MAX_VIDEO_BYTES, only):
        found[name] = outcome
    paths = [path for directory in directories for path in sorted(directory.iterdir())]
    trio.run(_files, [path for path in paths if path.is_file()], only, found)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # tuples become lists, as in a record


async def _files(paths: Sequence[Path], only: str, found: Record) -> None:
    async with opened() as process:
        for path in paths:
            for how, whole in (("whole", True), ("pieces", False)):
                name = f"file:{path.parent.name}/{path.name}:{how}"
                if fnmatch.fnmatch(name, only) and (outcome := await process(path, whole)) is not None:
                    found[name] = outcome


def _seeds(
    kind: str,
    seeds: Sequence[bytes],
    formats: Sequence[Format],
    run: Callable[[bytes, Format], Outcome],
    max_bytes: int,
    only: str,
) -> Iterator[tuple[str, Outcome]]:
    chance = random.Random(12)
    by_format = [[seed for seed in seeds if seed[0] == label] for label in sorted({seed[0] for seed in seeds})]
    for number in range(-len(seeds), _MUTATIONS):
        # Each seed as it is, then mutations. The first byte names the format; a mutation must not change it.
        seed = seeds[number] if number < 0 else chance.choice(by_format[number % len(by_format)])
        content = seed if number < 0 else seed[:1] + mutated([seed[1:]], chance, max_bytes)
        fmt, data = labelled(content, formats)
        name = f"{kind}:{fmt.value}:{number}"
        if fnmatch.fnmatch(name, only):
            yield name, run(data, fmt)


def _compare(before: Record, after: Record) -> int:
    allowed = tomllib.loads(_ALLOWED.read_text()).get("difference", [])
    wanted: dict[str, int] = {}
    unwanted = 0
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, {}), after.get(name, {})
        if was == now:
            continue
        reasons, left = _explained(allowed, name, was, now)
        if left:
            unwanted += 1
            print(f"DIFFERS {name} in {' '.join(sorted(left))}")
            print(f"  was {json.dumps(was)[:600]}\n  now {json.dumps(now)[:600]}")
        for why in () if left else reasons:
            wanted[why] = wanted.get(why, 0) + 1
    for why, count in wanted.items():
        print(f"wanted  {count:5} x {why}")
    print(f"{len(after)} outcomes, {unwanted} unwanted differences")
    return 1 if unwanted else 0


def _explained(
    allowed: Sequence[dict[str, str]], name: str, was: Outcome, now: Outcome
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Why it differs, and the fields that no entry names. Each entry answers for its own fields, or for all."""
    before, after = _flat(was), _flat(now)
    left = frozenset(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    reasons: list[str] = []
    for entry in allowed:
        fields = left & _named(entry, left, before, after)
        if fields and _matches(entry, name, was, now):
            reasons.append(entry["why"])
            left -= fields
    return tuple(reasons), left


def _named(entry: dict[str, str], differing: frozenset[str], before: Outcome, after: Outcome) -> frozenset[str]:
    if "fields" not in entry and "gains" not in entry:
        return differing
    gained = (key for key in entry.get("gains", "").split() if _only_gains(before.get(key), after.get(key)))
    return frozenset((*entry.get("fields", "").split(), *gained))


def _only_gains(was: object, now: object) -> bool:
    return isinstance(was, list) and isinstance(now, list) and all(each in now for each in was)


def _matches(entry: dict[str, str], name: str, was: Outcome, now: Outcome) -> bool:
    return (
        any(fnmatch.fnmatch(name, each) for each in entry["name"].split())
        and fnmatch.fnmatch(json.dumps(was, sort_keys=True), entry.get("was", "*"))
        and fnmatch.fnmatch(json.dumps(now, sort_keys=True), entry.get("now", "*"))
    )


def _flat(outcome: Outcome) -> Outcome:
    """Fields of fields by a name of their own: ``whole.patches``, ``thumbnails.small``."""
    flat: Outcome = {}
    for key, value in outcome.items():
        nested = _flat(value) if isinstance(value, dict) else None
        flat |= {key: value} if nested is None else {f"{key}.{inner}": each for inner, each in nested.items()}
    return flat


if __name__ == "__main__":
    sys.exit(main())

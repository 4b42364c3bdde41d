"""The lint of words, in documentation, code and messages: phrases that plain English does not need, and old names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PHRASES = {
    "told": r"\b(is|are|was|were) told\b",
    "said": r"\b(is|are|was|were) said\b",
    "the begin": r"\bthe begin\b",
    "needs not": r"\bneeds? (it )?not\b|\bneed not\b",
    "for ever": r"\bfor ever\b",
    "whoever": r"\b[Ww]hoever\b",
    "may not": r"\bmay not\b",
    "left in peace": r"\bleft in peace\b",
    "under way": r"\bunder way\b",
    "waits since": r"\bwaits? since\b",
    "at no cost": r"\bat no (attempt|cost)\b",
    "one a line": r"\bone a line\b",
    "of late": r"\bof late\b",
    "known of": r"\bknown of\b",
    "Nothing to do here": r"\bNothing to do here\b",
    "nothing of them": r"\b[Nn]othing of them\b",
    "by its settings": r"\bby its settings\b",
    "merge conflict": r"<{7} \w|>{7} \w",
}
# Names that others replaced, by the name of today. None of them comes back.
OLD_NAMES = {
    "sandbox": r"\bcage\b|CAGE__|\bforker\b|\b[Cc]onfined process",
    "media pipeline": r"\bworkshop\b",
    "renewer": r"\bkeeper\b",
    "deletion": r"avion[._]drops|\bdrop\.(tombstones?|undone|gap|backlog_full|malformed)\b|DropStream|DropChannel",
    "notice": r"MalformedDrop|parse_drop|\bDropper\b",
    "unavailable": r"\bstore\.(away|back)\b|(Store|Redis)Away|(store|redis)-away",
    "stalled": r"QueueStagnates|queue-stagnates",
    "internal error": r"\b(task|rpc|origin)\.defect\b",
    "reloaded": r"credentials\.read_again|FromFiles|\blook_again\b",
    "sweep": r"sweep\.(leading|lead_lost|unsure|queue_lost)\b|\bwatch\.look_failed\b",
    "backed_off": r"\b(queue|sweep|job|moderation)\.waiting[\"`]|replay_waiting",
    "max_deferral, timeouts": r"PATIENCE|[Pp]atien(t|ce)",
    "status store": r"StatusBoard|status board|RemoteBoard|RemoteMemory",
    "status resolver": r"\blasts_s\b",
    "dedup key": r"\boccasion\b|\bonce_keys?\b|[Mm]arker_lingers|MARKER_LINGERS",
    "resource slot": r"\bSlot\[",
    "usage error": r"\bMisuse\b|_STEERING",
    "host limiter": r"HostPolicy|EverybodyAdmitted|ServerTrouble|\btrouble_of\b",
    "notifier": r"\bBell\b|\bring_all\b",
    "accepting": r"\bletting_in\b|\btaking_work\b",
    "ports without authentication": r"undecided_ports",
    "media trace": r"join_medium",
    "early stop": r"end_at_once_when_told|spare_collections",
    "abandoned lookup": r"LeftBehind",
    "flood frames": r"[Nn]uisance",
    "GOAWAY": r"[Gg]oodbye|GOODBYE|PeerLeaving",
    "media report": r"\bdossier\b",
    "check": r"DoesNotHold|\brun_probe\b",
    "service faults": r"\bOURS\b|\b_PASSING\b|_OF_ONE_TASK",
    "record failure": r"\b_?give_up\b",
    "dead letter, end of a lease": r"\b_?bury|\b_quietly\b",
    "ensure lease, active attempt": r"\bConfirm\b|\b_Held\b",
    "unpublish, current": r"settle_deleted|yield_to_failure|\b[Rr]etract|\b_?[Ss]tanding\b",
    "data loss": r"\bLoss\b|FORGET_LOSS|\b_?lost its memory\b|\bmemory_since\b",
    "task scan, lease info": r"\bHands\b|\bhands_of\b|\beach_task\b|tasks\.waiting\b",
    "rate limiter": r"\bPace\b|tasks\.pace\b",
    "sweep decision": r"\b[Dd]oomed\b|\bNotebook\b|\bRemedies\b|\bqueue_again\b|\bTally\b",
    "stays down": r"\btake_off\b|\.doom\b|def held\(self\) -> bool",
    "release, supersede": r"SHELF|\bshel[fv]|\b_?[Hh]and(ed|s)?[ _-]back\b|\bdef lose\b",
    "regenerate": r"_ANEW\b|\bbegin_anew\b|_anew\b",
    "same on all replicas": r"told_by_all",
    "name of the channel": r"\b_tell\b|\b_told\b|\btold\(|\btold_at\b|has_told",
    "remote/errors.py": r"remote[./]answers",
}
READ = (
    "avion_media",
    "supervisors",
    "mediascrub",
    "mediathumbs",
    "trio_grpc",
    "trio_http1",
    "trio_redis",
    "trio_s3",
    "trio_sandbox",
    "trio_simulation",
    "trio_telemetry",
    "guarded_fetch",
    "docs",
    "examples",
    "clients",
    "ops",
    "proto",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
SUFFIXES = {".py", ".md", ".lua", ".html", ".yaml", ".proto", ".toml"}
LEFT_OUT = tuple(
    ROOT / each
    for each in (
        *(
            "supervisors/tests",
            "trio_grpc/tests",
            "trio_http1/tests",
            "trio_redis/tests",
            "trio_s3/tests",
            "trio_sandbox/tests",
            "trio_simulation/tests",
            "trio_telemetry/tests",
            "guarded_fetch/tests",
            "mediascrub/tests",
            "mediathumbs/tests",
        ),
        *("avion_media/common/wire", "trio_grpc/wire"),
    )
)


def texts() -> Iterator[Path]:
    """The files that people read."""
    for each in (ROOT / name for name in READ):
        yield from [each] if each.is_file() else (path for path in each.rglob("*") if path.suffix in SUFFIXES)


def found(patterns: dict[str, str]) -> dict[str, dict[str, int]]:
    """How often each file has each of the patterns."""
    counts: dict[str, dict[str, int]] = {}
    for path in texts():
        if {"node_modules", "build"} & set(path.relative_to(ROOT).parts) or any(
            path.is_relative_to(each) for each in LEFT_OUT
        ):
            continue
        text = re.sub(r"\s+(#|--|//)?\s*", " ", path.read_text())  # a phrase can go over two lines
        here = {name: len(re.findall(pattern, text)) for name, pattern in patterns.items()}
        counts[str(path.relative_to(ROOT))] = {name: count for name, count in here.items() if count}
    assert len(counts) > 300  # else the lint reads nothing
    return {name: here for name, here in counts.items() if here}


def test_prose_has_none_of_these_phrases() -> None:
    assert found(PHRASES) == {}


def test_old_names_do_not_come_back() -> None:
    assert found(OLD_NAMES) == {}


def test_the_lint_sees_each_phrase_also_over_two_lines() -> None:
    samples = {
        "told": "a client is told",
        "said": "as was said",
        "the begin": "at the begin of it",
        "needs not": "it need not",
        "for ever": "not for ever",
        "whoever": "Whoever asks",
        "may not": "it may not",
        "left in peace": "left in peace",
        "under way": "calls under way",
        "waits since": "it waits since",
        "at no cost": "at no attempt",
        "one a line": "one a line",
        "of late": "what ended of late",
        "known of": "what is known of it",
        "Nothing to do here": "Nothing to do here",
        "nothing of them": "nothing of them is served",
        "by its settings": "it loses nothing by its settings",
        "merge conflict": "a merge, <<<<<<< HEAD",
    }
    assert all(re.search(PHRASES[phrase], sample) for phrase, sample in samples.items())
    assert samples.keys() == PHRASES.keys()

"""The Redis user of docs/redis.md for other services: it can do what the examples do, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import redis

ROOT = Path(__file__).parents[3]
PASSWORD = "a long password"


@pytest.fixture
def user(redis_url: str) -> Iterator[Any]:
    """A client that is this user."""
    written = (ROOT / "docs" / "redis.md").read_text().partition("<!-- acl -->\n```text\nuser ")[2].partition("```")[0]
    rule = " ".join(written.split()).replace("<SHA-256 of the password>", hashlib.sha256(PASSWORD.encode()).hexdigest())
    with redis.Redis.from_url(redis_url, decode_responses=True) as owner:
        owner.xadd("media_events", {"event": json.dumps({"event_id": "1", "seq": 1})})
        owner.execute_command("ACL", "SETUSER", *words(rule))
        with redis.Redis.from_url(redis_url, username="avion-post", password=PASSWORD, decode_responses=True) as client:
            yield client
        owner.acl_deluser("avion-post")
        owner.flushall()


def words(rule: str) -> list[str]:
    """Return the words of a rule; a selector in parentheses is one of them."""
    found: list[str] = []
    for word in rule.split(" "):
        if found and found[-1].startswith("(") and not found[-1].endswith(")"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def example(path: str) -> Any:
    """Load a program of ``examples/``."""
    spec = spec_from_file_location("example", ROOT / "examples" / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_run(user: Any, redis_url: str) -> None:
    producer, consumer = example("deletions/delete.py"), example("events/consumer.py")
    producer.delete(user, ["m"])
    producer.trim(user)
    assert user.publish("drop_deleted", "{}") == 0
    with redis.Redis.from_url(redis_url, decode_responses=True) as owner:
        owner.set("media_events_position:posts", 0)
    events = consumer.read_events(user, "posts", "posts-1", missed=lambda: None)
    assert next(events)["event_id"] == "1"
    with user.pubsub() as subscription:
        subscription.subscribe("media_events")
        assert subscription.get_message(timeout=5)["type"] == "subscribe"


@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "media_delete_queue", "*", "task_id", "1", "media_id", "m"),
        ("XADD", "media_events", "*", "event", "{}"),
        ("XADD", "{drop_deleted}:heard", "*", "event", "{}"),
        ("XTRIM", "media_events", "MAXLEN", "0"),
        ("XREADGROUP", "GROUP", "media_drops", "me", "STREAMS", "drop_deleted", ">"),
        ("XACK", "drop_deleted", "media_drops", "1-1"),
        ("XGROUP", "DESTROY", "media_events", "others"),
        ("DEL", "media_events"),
        ("DEL", "drop_deleted"),
        ("GET", "media_status:{00}m"),
        ("HSET", "media_deletion:{00}m", "state", "undeleted"),
        ("PUBLISH", "media_events", "{}"),
        ("PUBLISH", "media_undeletes", "9"),
        ("SUBSCRIBE", "drop_deleted"),
        ("PSUBSCRIBE", "*"),
        ("EVAL", "return 1", "0"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("INFO",),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SHUTDOWN",),
    ],
    ids=" ".join,
)
def test_nothing_else_is_allowed(user: Any, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        user.execute_command(*command)

"""The commands that read Redis and the store directly: `dlq`, `inspect`, `undelete`, `sweep`. No service runs here."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis as redis_py

from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.queue.entries import delayed_member
from avion_media.backends.redis import open_redis
from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.formats import JPEG, MP4
from avion_media.common.ids import AnyId, MediaId, new_media_id
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, EVENTS_STREAM, PROCESSING_QUEUE, State, Status
from avion_media.items.deletion import DeletionRecords, removal_id
from avion_media.items.moderation import Block, BlockState, Ended, Entry, HashType
from avion_media.items.moderation.records import HELD, Held, write_block
from avion_media.items.state import MediaEvents, StatusStore
from tests.conftest import S3Bucket
from tests.remote_ids import put_remote_key, remote_id_for
from tests.service.commands import run_command
from tests.service.harness import eventually, service_environment
from tests.service.published import key_of

Client = Any  # redis-py's types allow for options that no test here uses
DAY = 86400.0
A_BLOCK = Block(
    "01M88C0SJ305C5J3D3BYCKGE00",
    "2026-11-20T08:00:00.000+00:00",
    by="ada",
    note="report 4711",
    cause="list others",
    entries=(Entry(HashType.SHA256, bytes.fromhex("ab" * 32), "an advert"),),
    copies=("01M88C0SJ305C5J3D3BYCKGE01",),
    state=BlockState.REMOVED,
)


@dataclass
class Operator:
    """Somebody at a terminal, and what the commands work on."""

    environment: dict[str, str]
    bucket: S3Bucket
    redis: Client
    redis_url: str

    def run(self, *arguments: str, status: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
        """One command, which must end with ``status``."""
        environment = self.environment | {f"AVION_MEDIA_{name}": value for name, value in settings.items()}
        ended = run_command(*arguments, environment=environment)
        assert ended.returncode == status, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended

    def json(self, *arguments: str, status: int = 0, **settings: Any) -> Any:
        """What one command prints with ``--json``."""
        return json.loads(self.run(*arguments, "--json", status=status, **settings).stdout)

    def put(self, key: str, body: bytes = b"xyz") -> None:
        self.bucket.client.put_object(Bucket=self.bucket.bucket, Key=key, Body=body, ContentType="image/jpeg")

    def keys(self) -> set[str]:
        listing = self.bucket.client.list_objects_v2(Bucket=self.bucket.bucket)
        found = {each["Key"] for each in listing.get("Contents", ())}
        return {key for key in found if not key.startswith("audit/")}

    def add_dead_letter(self, queue: str, error: str, days_ago: float, **fields: str) -> str:
        """A dead letter, written as the contract says; its entry id."""
        now = time.time()
        dead_letter = {"task_id": f"task-{error}", **fields, "error": error, "attempts": "5"}
        dead_letter["failed_at"] = f"{now - days_ago * DAY:.3f}"
        dead_letter["first_seen"] = f"{now - days_ago * DAY - 60:.3f}"
        return str(self.redis.xadd(f"{{{queue}}}:dlq", dead_letter))


@pytest.fixture
def operator(s3: S3Bucket, redis_url: str) -> Iterator[Operator]:
    put_remote_key(s3.client, s3.bucket)
    environment = service_environment(redis_url, s3.address.endpoint_url, s3.bucket)
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Operator(environment, s3, client, redis_url)


def an_upload(age_s: float = 0.0) -> MediaId:
    return new_media_id(JPEG, int((time.time() - age_s) * 1000))


def test_dead_letters_are_listed_by_queue_error_and_age(operator: Operator) -> None:
    upload = an_upload()
    old = operator.add_dead_letter(PROCESSING_QUEUE, "RuntimeError('boom')", 9, media_id=str(upload), type="thumbnail")
    young = operator.add_dead_letter(PROCESSING_QUEUE, "poison: 3 workers crashed with it", 1, media_id=str(upload))
    remote = operator.add_dead_letter(CACHE_QUEUE, "KeyError('boom')", 2, remote_url="https://remote.example/a.png")

    def listed(*filters: str) -> list[str]:
        return [each["entry_id"] for each in operator.json("dlq", "list", *filters)]

    assert listed() == [old, young, remote]
    assert listed("--queue", "processing") == [old, young]
    assert listed("--queue", CACHE_QUEUE) == [remote]
    assert listed("--error", "BOOM") == [old, remote]
    assert listed("--older-than", "5d") == [old]
    assert listed("--newer-than", "36h") == [young]
    assert listed("--error", "boom", "--newer-than", "5d") == [remote]
    assert listed("--limit", "1") == [old]
    table = operator.run("dlq", "list").stdout
    assert old in table
    assert str(upload) in table
    assert "https://remote.example/a.png" in table


def test_one_dead_letter_is_shown_whole(operator: Operator) -> None:
    upload = an_upload()
    entry_id = operator.add_dead_letter(
        PROCESSING_QUEUE,
        "boom",
        1,
        media_id=str(upload),
        type="thumbnail",
        traceparent="00-ab",
        deaths="2",
        crashed_workers=" worker-1@1795579776 worker-2@1795579808",
    )
    (shown,) = operator.json("dlq", "show", entry_id)
    assert shown["media_id"] == str(upload)
    assert (shown["attempts"], shown["deaths"]) == (5, 2)
    assert shown["crashed_workers"] == "worker-1@1795579776 worker-2@1795579808"
    assert shown["error"] == "boom"
    assert shown["traceparent"] == "00-ab"
    assert datetime.fromisoformat(shown["first_seen"]) < datetime.fromisoformat(shown["failed_at"])
    assert "boom" in operator.run("dlq", "show", entry_id).stdout
    assert "no such dead letter" in operator.run("dlq", "show", "1-1", status=1).stderr
    assert "no such dead letter" in operator.run("dlq", "show", "nonsense", status=1).stderr


def test_what_strangers_wrote_neither_marks_up_nor_steers_the_terminal(operator: Operator) -> None:
    url = "http://[fe80::1]/[/x]"
    entry_id = operator.add_dead_letter(CACHE_QUEUE, "boom [/b] \x1b[31m\x9b1m", 1, remote_url=url)
    for shown in (operator.run("dlq", "list").stdout, operator.run("dlq", "show", entry_id).stdout):
        assert url in shown
        assert r"boom [/b] \x1b[31m\x9b1m" in shown
        assert "\x1b" not in shown


def test_replay_queues_again_with_the_history(operator: Operator) -> None:
    upload = an_upload()
    entry_id = operator.add_dead_letter(PROCESSING_QUEUE, "boom", 1, media_id=str(upload), type="thumbnail")
    other = operator.add_dead_letter(PROCESSING_QUEUE, "other", 1, media_id=str(an_upload()), type="thumbnail")
    (done,) = operator.json("dlq", "replay", entry_id)["replayed"]
    assert done["entry_id"] == entry_id
    ((_, task),) = operator.redis.xrange(PROCESSING_QUEUE)
    assert task["media_id"] == str(upload)
    assert (task["error"], task["replays"]) == ("boom", "1")
    assert "attempts" not in task
    assert [each["entry_id"] for each in operator.json("dlq", "list")] == [other]
    (replayed,) = operator.json("audit", "--target", str(upload))
    assert replayed["target"] == [f"{PROCESSING_QUEUE}/{entry_id} ({upload})"]
    assert "no such dead letter" in operator.run("dlq", "replay", entry_id, status=1).stderr


def test_replay_and_drop_by_filter(operator: Operator) -> None:
    for number in range(3):
        operator.add_dead_letter(PROCESSING_QUEUE, f"boom {number}", number + 1, media_id=str(an_upload()))
    operator.add_dead_letter(DELETE_QUEUE, "boom 4", 1, media_id=str(an_upload()))
    assert operator.run("dlq", "drop", "--older-than", "60h").stdout.strip() == "1 dropped"
    assert operator.run("dlq", "replay", "--queue", "processing").stdout.strip() == "2 replayed"
    assert operator.redis.xlen(PROCESSING_QUEUE) == 2
    assert operator.run("dlq", "drop", "--all").stdout.strip() == "1 dropped"
    assert operator.json("dlq", "list") == []


def test_replay_at_a_rate_is_a_job_that_is_steered(operator: Operator) -> None:
    for number in range(3):
        operator.add_dead_letter(PROCESSING_QUEUE, f"boom {number}", 1, media_id=str(an_upload()))
    done = operator.run("dlq", "replay", "--queue", "processing", "--newer-than", "90d", "--rate", "50")
    assert done.stdout.strip() == "processing.replay: 3 dead letters, 50 a second"
    assert '"action": "replay_all"' in done.stderr
    assert "not done yet" in operator.run("dlq", "replay", "--queue", "processing", "--rate", "5", status=1).stderr
    for word, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert f'"action": "{word}_job"' in operator.run("jobs", word, "processing.replay").stderr
        (job,) = operator.json("jobs")
        assert (job["job"], job["state"], job["rate"], job["done"]) == ("processing.replay", state, 50.0, 0)
    assert "cancelled" in operator.run("jobs").stdout
    operator.run("jobs", "resume", "processing.replay", status=1)
    operator.run("jobs", "pause", "nonsense", status=2)


def test_undelete_at_a_rate_is_a_job(operator: Operator) -> None:
    begun = operator.run("undelete", str(an_upload()), "--owner", "ada", "--rate", "5")
    assert begun.stdout.strip() == "delete.undelete: 5 a second"
    (job,) = operator.json("jobs")
    assert (job["total"], job["conditions"]) == (1, {"owner": "ada"})


def test_a_queue_is_paused_resumed_and_rid_of_a_task(operator: Operator) -> None:
    upload = an_upload()
    operator.redis.xadd(PROCESSING_QUEUE, {"task_id": "theirs", "media_id": str(upload), "tenant": "image/ada"})
    (task,) = operator.json("queues", "list", "processing", "--tenant", "ada")
    assert (task["task_id"], task["media_id"], task["location"]) == ("theirs", str(upload), "stream")
    assert operator.json("queues", "list", "processing", "--tenant", "image/ada") == [task]
    assert operator.json("queues", "list", "processing", "--tenant", "bob") == []
    assert "theirs" in operator.run("queues", "list", "processing").stdout
    paused = operator.run("queues", "pause", "processing", "--note", "CDN maintenance", "--for", "2h")
    assert '"event": "operator.action"' in paused.stderr
    assert '"actor": "' in paused.stderr
    assert operator.json("queues")[PROCESSING_QUEUE]["paused_since"] > 0
    shown = operator.run("queues").stdout
    assert re.search(r"paused by \S+ since \d{4}-\S+: CDN maintenance, until \d{4}-", shown)
    assert "If Redis loses its data, a pause is lost, too." in shown
    assert operator.run("queues", "cancel", "processing", "theirs").stdout.strip() == "theirs: cancelled"
    assert "no such task" in operator.run("queues", "cancel", "processing", "other", status=1).stderr
    assert "cannot be cancelled" in operator.run("queues", "cancel", "delete", "theirs", status=1).stderr
    assert operator.run("queues", "resume", "processing").stdout.strip() == f"{PROCESSING_QUEUE}: resumed"
    assert operator.run("queues", "resume", "processing").stdout.strip() == f"{PROCESSING_QUEUE}: was not paused"


def test_the_last_actions_are_listed_by_what_is_known_of_them(operator: Operator) -> None:
    operator.run("queues", "pause", "processing", "--note", "CDN maintenance")
    operator.run("queues", "resume", "processing")
    resumed, paused = operator.json("audit")
    assert (resumed["action"], paused["action"], paused["entrance"]) == ("resume", "pause", "command")
    for words in (("--text", "cdn"), ("--text", "Pause queue"), ("--action", "pause"), ("--actor", paused["actor"])):
        assert paused in operator.json("audit", *words)
    assert operator.json("audit", "--text", "cdn") == operator.json("audit", "--action", "pause") == [paused]
    assert operator.json("audit", "--since", "2100-01-01") == operator.json("audit", "--calls") == []
    (line,) = operator.run("audit", "--action", "pause").stdout.splitlines()
    assert line.startswith(paused["time"][:19])
    assert re.search(r"  \S+  pause media_processing_queue: .* paused.* Note: CDN maintenance$", line)


def test_steering_prints_json_for_programs(operator: Operator) -> None:
    operator.redis.xadd(PROCESSING_QUEUE, {"task_id": "theirs", "media_id": str(an_upload())})
    assert operator.json("queues", "pause", "processing") == {"queue": PROCESSING_QUEUE, "paused": True}
    assert operator.json("queues", "cancel", "processing", "theirs")["cancelled"] == ["theirs"]
    assert operator.json("queues", "resume", "processing")["was_paused"] is True
    operator.add_dead_letter(PROCESSING_QUEUE, "boom", 1, media_id=str(an_upload()))
    operator.run("dlq", "replay", "--all", "--rate", "5")
    for word, done in (("pause", "paused"), ("resume", "resumed"), ("cancel", "cancelled")):
        assert operator.json("jobs", word, "processing.replay") == {"job": "processing.replay", "done": done}


def test_a_dead_letter_whose_id_is_in_two_queues_is_named_with_its_queue(operator: Operator) -> None:
    for queue in (PROCESSING_QUEUE, DELETE_QUEUE):
        operator.redis.xadd(QueueKeys(queue).dead_letters, {"task_id": "t", "media_id": str(an_upload())}, id="7000-1")
    refused = operator.run("dlq", "drop", "7000-1", status=1)
    assert "is in several queues" in refused.stderr
    assert operator.run("dlq", "drop", "7000-1", "--queue", "delete").stdout.strip() == "1 dropped"
    (left,) = operator.json("dlq", "list")
    assert left["queue"] == PROCESSING_QUEUE


@pytest.mark.parametrize(
    "arguments",
    [
        ["queues", "pause", "nonsense"],
        ["dlq", "replay", "1-1", "--rate", "5"],
        ["cache", "nonsense"],
        ["dlq", "replay"],
        ["dlq", "drop"],
        ["dlq", "drop", "1-1", "--all"],
        ["dlq", "replay", "1-1", "--error", "boom"],
        ["dlq", "list", "--queue", "nonsense"],
        ["dlq", "list", "--older-than", "nonsense"],
    ],
    ids=" ".join,
)
def test_nothing_is_dropped_by_a_slip(operator: Operator, arguments: list[str]) -> None:
    operator.add_dead_letter(PROCESSING_QUEUE, "boom", 1, media_id=str(an_upload()))
    operator.run(*arguments, status=2)
    assert len(operator.json("dlq", "list")) == 1


async def test_inspect_shows_everything_that_is_known(operator: Operator) -> None:
    upload = an_upload(age_s=60)
    operator.put(keys.incoming(upload), b"12345")
    operator.put(keys.original(upload))
    operator.put(keys.thumbnail(upload, "small"))
    operator.put(keys.thumbnail(upload, "formersize"))
    async with open_redis(operator.redis_url) as redis:
        statuses = StatusStore(redis)
        await statuses.put(Status(str(upload), State.FAILED, Reason.CORRUPT), ttl_s=60)
        events = MediaEvents(redis)
        await events.publish("media.failed", str(upload), {"reason": "corrupt"})
        await events.publish("media.failed", str(an_upload()), {"reason": "corrupt"})
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        for task_id in ("running", "retried", "given-up", "waiting"):
            await queue.enqueue({"media_id": str(upload), "type": "thumbnail"}, task_id=task_id)
        leases = {}
        for _ in range(3):
            lease = await queue.take("worker-1", block_s=1)
            assert lease is not None
            leases[lease.task.task_id] = lease
        await leases["retried"].retry(100, "TimeoutError()")
        await leases["given-up"].dead_letter("RuntimeError('boom')")
        await queue.enqueue({"media_id": str(an_upload()), "type": "thumbnail"})

    known = operator.json("inspect", str(upload))
    assert known["media_id"] == str(upload)
    assert known["declared"] == "jpeg"
    assert known["status"] == {"state": "FAILED", "reason": "corrupt", "retryable": False}
    assert known["deletion"] is None
    assert {each["key"]: each["bytes"] for each in known["objects"]} == {
        keys.incoming(upload): 5,
        keys.original(upload): 3,
        keys.thumbnail(upload, "small"): 3,
        keys.thumbnail(upload, "formersize"): 3,
    }
    tasks = {each["task_id"]: each for each in known["tasks"]}
    assert {name: task["location"] for name, task in tasks.items()} == {
        "running": "stream",
        "waiting": "stream",
        "retried": "delayed",
        "given-up": "dead letters",
    }
    assert tasks["running"]["consumer"] == "worker-1"
    assert tasks["running"]["deliveries"] == 1
    assert "consumer" not in tasks["waiting"]
    assert (tasks["retried"]["error"], tasks["retried"]["attempts_used"]) == ("TimeoutError()", 1)
    assert datetime.fromisoformat(tasks["retried"]["due_at"]) > datetime.now(UTC)
    assert tasks["given-up"]["error"] == "RuntimeError('boom')"
    assert [(each["type"], each["reason"]) for each in known["events"]] == [("media.failed", "corrupt")]

    text = operator.run("why", str(upload)).stdout  # the alias
    for part in ("FAILED", "corrupt", keys.original(upload), "worker-1", "RuntimeError('boom')", "media.failed"):
        assert part in text


def test_inspect_shows_what_moderation_has_recorded(operator: Operator) -> None:
    """Redis has nothing of it: neither after a loss of its data, nor when the status has expired."""
    ended = "2026-11-20T09:00:00.000+00:00"
    upload = an_upload()
    lifted = replace(A_BLOCK, state=BlockState.LIFTED, note="a mistake", lifted_at=ended, lifted_by="eve")
    operator.put(keys.block(str(upload)), write_block(replace(lifted, earlier=(Ended(A_BLOCK.at, note="older"),))))
    only_lifted = operator.json("inspect", str(upload))["moderation"]
    assert [(each["record"], each["note"], each["lifted_by"]) for each in only_lifted] == [
        ("lifted", "a mistake", "eve")
    ]

    operator.put(keys.block(str(upload)), write_block(replace(A_BLOCK, earlier=lifted.ended())))
    operator.put(f"{keys.QUARANTINE_PREFIX}{upload}/original", b"1234")
    known = operator.json("inspect", str(upload))
    blocked = known["moderation"][-1]
    assert blocked == {
        "record": "blocked",
        "state": "removed",
        "at": A_BLOCK.at,
        "by": "ada",
        "note": "report 4711",
        "cause": "list others",
        "entries": [f"sha256,{'ab' * 32},an advert"],
        "copies": ["01M88C0SJ305C5J3D3BYCKGE01"],
        "next": f"it is blocked; to lift the block: `avion-media unblock {upload}`",
    }
    assert {each["key"]: each["bytes"] for each in known["objects"]} == {f"quarantine/{upload}/original": 4}
    text = operator.run("inspect", str(upload)).stdout
    for part in ("record=blocked", "note=report 4711", "by=ada", f'"sha256,{"ab" * 32},an advert"', "quarantine/"):
        assert part in text
    operator.put(keys.block(str(upload)), write_block(replace(A_BLOCK, state=BlockState.REMOVING)))
    assert "not completed" in operator.json("inspect", str(upload))["moderation"][-1]["next"]


def test_inspect_names_records_that_it_cannot_read(operator: Operator) -> None:
    upload = an_upload()
    operator.put(keys.block(str(upload)), b'{"v":2}')
    operator.put(f"{keys.HELD_PREFIX}{upload}", b"{")
    blocked, held = operator.json("inspect", str(upload))["moderation"]
    assert (blocked["record"], held["record"]) == ("blocked", "held")
    assert "version 2" in blocked["unreadable"]
    assert "not JSON" in held["unreadable"]


async def test_inspect_says_how_to_decide_about_what_is_held(operator: Operator) -> None:
    upload = an_upload()
    task = {"media_id": str(upload), "type": "thumbnail"}
    held = Held(str(upload), "2026-11-20T08:00:00.000+00:00", "pdq 00 of list own", PROCESSING_QUEUE, task)
    operator.put(f"{keys.HELD_PREFIX}{upload}", HELD.write(held))
    assert operator.json("inspect", str(upload))["moderation"] == [
        {
            "record": "held",
            "at": held.at,
            "match": held.match,
            "next": f"it is held; decide: `avion-media review release {upload}` or `avion-media review block {upload}`",
        }
    ]
    async with open_redis(operator.redis_url) as redis:  # a moderator has released it
        await StatusStore(redis).put(Status(str(upload), State.PROCESSING), ttl_s=60)
    (record,) = operator.json("inspect", str(upload))["moderation"]
    assert (record["record"], "next" in record) == ("released", False)


def test_inspect_takes_the_url_of_remote_media(operator: Operator) -> None:
    remote = remote_id_for("https://remote.example/a.png")
    operator.redis.xadd(CACHE_QUEUE, {"task_id": "t", "remote_url": "https://remote.example/a.png"})
    known = operator.json("inspect", "HTTPS://REMOTE.example:443/a.png")
    assert known["media_id"] == str(remote)
    assert [each["task_id"] for each in known["tasks"]] == ["t"]
    assert operator.json("inspect", str(remote)) == known


def test_inspect_shows_what_keeps_a_remote_url_from_being_fetched(operator: Operator) -> None:
    url = "https://remote.example/b.png"
    remote = remote_id_for(url)
    failure = {"reason": "remote_status", "task_id": "t", "server": "remote.example:443", "failed_at": time.time() - 60}
    operator.redis.set(key_of("remote_failure", remote), json.dumps(failure), px=3_000_000)
    operator.redis.set(key_of("remote_used", remote), f"{time.time():.3f} 604800.000 0")
    trouble = {"failures": "7", "paused_until": f"{time.time() + 50:.3f}", "cause": "cannot connect"}
    operator.redis.hset("remote_server:{remote.example}:443", mapping=trouble)
    known = operator.json("inspect", url)["remote"]
    assert (known["failed"], known["by_task"], known["server"]) == ("remote_status", "t", "remote.example:443")
    assert (known["server_failures"], known["server_cause"]) == (7, "cannot connect")
    assert known["failed_at"] < known["last_use"] < known["server_paused_until"] < known["not_asked_until"]
    # Of a URL whose task waits, the task tells the server.
    waiting = "https://remote.example/c.png"
    operator.redis.zadd(f"{{{CACHE_QUEUE}}}:delayed", {delayed_member({"task_id": "w", "remote_url": waiting}): 2e9})
    assert operator.json("inspect", waiting)["remote"]["server_cause"] == "cannot connect"


def test_why_of_the_unknown_fails_and_says_so(operator: Operator) -> None:
    assert "no media item has this id" in operator.run("why", str(an_upload()), status=1).stderr
    assert "not a media id" in operator.run("why", "nonsense", status=2).stderr
    assert operator.run("why", "gopher://a.example/", status=2).stderr
    assert operator.json("inspect", str(new_media_id(MP4, 0)), status=1)["objects"] == []
    operator.redis.xadd(EVENTS_STREAM, {"event": "not JSON"})  # somebody else's mistake is no reason to fail
    operator.json("inspect", str(an_upload()), status=1)


def state_of(operator: Operator, any_id: AnyId) -> str | None:
    state: str | None = operator.redis.hget(key_of("media_deletion", any_id), "state")
    return state


async def drop(operator: Operator, any_id: AnyId, delay_s: float = DAY) -> None:
    """Delete as the events role does."""
    async with open_redis(operator.redis_url) as redis:
        marks = await DeletionRecords(redis).mark([str(any_id)], delay_s=delay_s)
        due = [({"media_id": each.media_id}, removal_id(each.media_id, each.generation), 0.0) for each in marks]
        await TaskQueue(redis, DELETE_QUEUE).delay(due)


def test_a_deletion_pushes_none_out_that_nobody_has_read(operator: Operator) -> None:
    waiting = 100_500
    fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'event', i) end"
    operator.redis.eval(fill, 1, "drop_deleted", waiting)
    upload = an_upload()
    operator.run("delete", str(upload))
    assert operator.redis.xlen("drop_deleted") == waiting + 1
    ((_, last),) = operator.redis.xrevrange("drop_deleted", count=1)
    assert json.loads(last["event"]) == {"media_ids": [str(upload)]}


async def test_a_deletion_can_be_taken_back_while_its_delay_runs(operator: Operator) -> None:
    upload, other = an_upload(), an_upload()
    for each in (upload, other):
        operator.put(keys.original(each))
        await drop(operator, each)
    deletion = operator.json("inspect", str(upload))["deletion"]
    delay = datetime.fromisoformat(deletion["objects_go_at"]) - datetime.fromisoformat(deletion["deleted_at"])
    assert delay.total_seconds() == DAY

    assert operator.json("undelete", str(upload))["undeleted"] == [str(upload)]
    assert state_of(operator, upload) == "undeleted"
    assert state_of(operator, other) == "marked"
    assert operator.json("inspect", str(upload))["deletion"]["state"] == "undeleted"
    assert operator.json("undelete", str(upload))["undeleted"] == [str(upload)]  # repeating it is no mistake
    assert "not deleted" in operator.run("undelete", str(an_upload()), status=1).stderr


async def test_a_remote_medium_that_was_just_being_fetched_is_what_the_store_has(operator: Operator) -> None:
    """Its deletion kept the fetch from saying how it ended; nobody else will."""
    remote = remote_id_for("https://remote.example/d.png")
    operator.put(keys.original(remote))
    async with open_redis(operator.redis_url) as redis:
        statuses = StatusStore(redis)
        await statuses.put(Status(str(remote), State.PROCESSING), ttl_s=DAY)
        await drop(operator, remote)
        assert operator.json("undelete", str(remote))["undeleted"] == [str(remote)]
        assert await statuses.get(str(remote)) is None


async def test_too_late_is_said_and_changes_nothing(operator: Operator) -> None:
    gone, running = an_upload(), an_upload()
    operator.put(keys.original(running))
    for each in (gone, running):
        await drop(operator, each)
    operator.redis.hset(key_of("media_deletion", running), "state", "removing")

    ended = operator.run("undelete", str(gone), str(running), status=1)
    assert "its original is gone" in ended.stderr
    assert "objects are being removed" in ended.stderr
    assert (state_of(operator, gone), state_of(operator, running)) == ("marked", "removing")


async def test_what_is_blocked_is_unblocked_before_its_deletion_is_taken_back(operator: Operator) -> None:
    """A block moves the original to quarantine: it is not gone."""
    upload = an_upload()
    operator.put(keys.block(str(upload)), write_block(A_BLOCK))
    await drop(operator, upload)
    due = operator.json("inspect", str(upload))["deletion"]["objects_go_at"]

    ended = operator.run("undelete", str(upload), status=1)
    assert f"{upload}: it is blocked: unblock it first, before {due}" in ended.stderr
    assert state_of(operator, upload) == "marked"


async def test_what_is_overdue_and_not_being_removed_can_still_be_taken_back(operator: Operator) -> None:
    upload = an_upload()
    operator.put(keys.original(upload))
    await drop(operator, upload, delay_s=0)
    assert operator.json("undelete", str(upload))["undeleted"] == [str(upload)]


def test_sweep_shows_first_and_then_does(operator: Operator) -> None:
    orphan = keys.thumbnail(an_upload(), "small")
    abandoned = keys.incoming(an_upload())
    operator.redis.hset("media_sweep", "complete_since", "0")
    for key in (orphan, abandoned):
        operator.put(key)

    def old_enough(shown: str) -> str | None:
        return shown if orphan in shown and abandoned in shown else None

    settings: dict[str, Any] = {"SWEEP__MARGIN": "0", "UPLOAD__URL_TTL": "1", "SWEEP__RATE": "1000"}

    assert operator.json("sweep")["done"] == {}  # all of it is too young
    shown = eventually(
        lambda: old_enough(operator.run("sweep", "--dry-run", **settings).stdout), "both to be old enough"
    )
    assert "dry run" in shown
    assert operator.keys() == {orphan, abandoned, keys.REMOTE_SECRET}

    refused = operator.run("sweep", status=1, SWEEP__ALWAYS_ALLOWED="1", **settings)
    assert "--force" in refused.stderr
    assert operator.keys() == {orphan, abandoned, keys.REMOTE_SECRET}

    operator.redis.hdel("media_sweep", "finished_at")
    operator.run("sweep", status=1, SWEEP__ALWAYS_ALLOWED="1", **settings)
    operator.run("sweep", "--dry-run", **settings)
    assert not operator.redis.hexists("media_sweep", "finished_at")  # the alert for it stands
    report = operator.json("sweep", "--force", SWEEP__ALWAYS_ALLOWED="1", **settings)
    assert report["done"]["orphan"] == {"media": 1, "objects": 1, "bytes": 3}
    assert {each["reason"]: each["removed"] for each in report["actions"]} == {
        "orphan": [orphan],
        "abandoned": [abandoned],
    }
    assert operator.keys() == {keys.REMOTE_SECRET}
    assert operator.redis.hexists("media_sweep", "finished_at")


def test_what_is_away_is_one_helpful_line(operator: Operator) -> None:
    nowhere = {"REDIS__URL": "redis://127.0.0.1:1/0"}
    for arguments in (["dlq", "list"], ["sweep"], ["why", str(an_upload())], ["undelete", str(an_upload())]):
        ended = operator.run(*arguments, status=1, **nowhere)
        assert "(see AVION_MEDIA_REDIS__URL)" in ended.stderr
    for arguments in (["inspect", str(an_upload())], ["undelete", str(an_upload())], ["review", "list"], ["init"]):
        ended = operator.run(*arguments, status=1, STATUS__REDIS_URL="redis://127.0.0.1:1/0")
        assert "(see AVION_MEDIA_STATUS__REDIS_URL)" in ended.stderr
    ended = operator.run("sweep", status=1, S3__ENDPOINT_URL="http://127.0.0.1:1", S3__TIMEOUT="1s")
    assert "AVION_MEDIA_S3__ENDPOINT_URL" in ended.stderr
    ended = operator.run("sweep", status=1, S3__BUCKET="no-such-bucket")
    assert "run avion-media init (see AVION_MEDIA_S3__BUCKET)" in ended.stderr
    assert "store.unavailable" not in ended.stdout + ended.stderr  # that line is for the log of a service


def test_a_bucket_that_the_store_refuses_is_one_helpful_line(operator: Operator) -> None:
    (line,) = operator.run("init", status=1, S3__BUCKET="bad..bucket").stderr.splitlines()
    assert line.startswith("avion-media: the object store refuses the bucket bad..bucket: ")
    assert line.endswith("(see AVION_MEDIA_S3__BUCKET)")
    assert "S3__BUCKET='no/bucket'" in operator.run("init", status=2, S3__BUCKET="no/bucket").stderr

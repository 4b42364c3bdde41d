"""Each action of operators by each of its doors: command, button, route of the admin port, method of gRPC.

The tests walk the table, so an action or a door without a case here fails.
"""

from __future__ import annotations

import getpass
import hashlib
import io
import json
import random
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
import redis as redis_py
import trio

from avion_media.backends.queue import BulkJobs, DeadLetterFilter
from avion_media.backends.redis import Redis, open_redis
from avion_media.cli.tree import PAUSE_S
from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id, parse_any_id
from avion_media.common.media import MediaFacts
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.items.deletion import DeletionRecords
from avion_media.items.moderation import Block, BlockState, Notice
from avion_media.items.moderation.records import HELD, NOTICE, Held, write_block
from avion_media.operations.table import OPERATIONS
from avion_media.servers.admin.application import ROUTES
from tests.audit_log import records_in
from tests.conftest import S3Bucket
from tests.remote_ids import remote_id_for
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.test_console_access import form_token

OPERATOR, MODERATOR = "an-operators-token-of-32-characters", "a-moderators-token-of-32-characters"
NOTE = "report 4711"
QUEUE = CACHE_QUEUE
SHA256 = hashlib.sha256(b"unwanted").hexdigest()
ONLY_BY_COMMAND = {"refuse", "import_list", "import_media", "rotate_tokens", "export_owner", "sweep", "init"}
ONLY_BY_BUTTON = {"look", "list", "unlist", "process_again"}
BY_METHOD = ("block", "unblock")
DOORS = [
    *((name, "command") for name in OPERATIONS if name not in ONLY_BY_BUTTON),
    *((name, "button") for name in OPERATIONS if name not in ONLY_BY_COMMAND),
    *((name, "route") for name in ROUTES),
    *((name, "method") for name in BY_METHOD),
]


@dataclass
class Case:
    """One action, and how each door is used for it."""

    command: tuple[str, ...] = ()
    form: dict[str, str] = field(default_factory=dict)
    page: str = ""  # for an action that a page carries out
    route: str = ""
    request: Any = None


@dataclass
class World:
    """A running service without workers, so that nothing moves, and an operator who has logged in."""

    service: Service
    redis: Any
    bucket: S3Bucket
    client: httpx.Client
    folder: Path

    def on_redis(self, use: Callable[[Redis], Any]) -> Any:
        """Use the service's own code on its Redis."""

        async def run() -> Any:
            async with open_redis(self.service.environment["AVION_MEDIA_REDIS__URL"]) as redis:
                return await use(redis)

        return trio.run(run)

    def put(self, key: str, body: bytes) -> None:
        self.bucket.client.put_object(Bucket=self.bucket.bucket, Key=key, Body=body)

    def by_command(self, case: Case, _name: str) -> None:
        done = self.service.run_cli(*case.command)
        assert done.returncode == 0, done.stderr
        assert '"event": "operator.action"' in done.stderr or case.command[0] == "chaos"

    def by_button(self, case: Case, name: str) -> None:
        if case.page:
            assert self.client.get(case.page).status_code == 200
            return
        form = {"form_token": form_token(self.client.get("/console")), "action": name, "confirmed": "yes"}
        if "note" in OPERATIONS[name].takes:
            form["note"] = NOTE
        done = self.client.post("/console/actions", data=form | case.form)
        assert done.status_code == 303, self.service.log()[-3000:]

    def by_route(self, case: Case, _name: str) -> None:
        done = self.client.post(case.route, headers={"Authorization": f"Bearer {OPERATOR}"})
        assert done.status_code == 200, done.text

    def by_method(self, case: Case, _name: str) -> None:
        method = type(case.request).__name__.removesuffix("Request")
        with grpc.insecure_channel(self.service.grpc_address) as channel:
            call = channel.unary_unary(f"/avion.MediaService/{method}", type(case.request).SerializeToString)
            call(case.request, metadata=[("authorization", f"Bearer {MODERATOR}")], timeout=30)


@pytest.fixture(scope="module")
def world(
    redis_of_process: str, redis_client: redis_py.Redis, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("operations")
    tokens, callers = folder / "tokens", folder / "callers.toml"
    tokens.write_text(f"{OPERATOR} operator+evidence\n")
    token = hashlib.sha256(MODERATOR.encode()).hexdigest()
    callers.write_text(f'[callers.moderation]\nmethods = ["*"]\ntokens_sha256 = ["{token}"]\n')
    environment = service_environment(
        redis_of_process,
        bucket.address.endpoint_url,
        bucket.bucket,
        ADMIN__TOKEN_FILE=str(tokens),
        GRPC__AUTH="token",
        GRPC__CALLERS_FILE=str(callers),
        CLIENT__TOKEN=MODERATOR,
        CHAOS__ENABLED="true",
    )
    with (
        running(environment, roles="grpc,http") as service,
        httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=30) as client,
    ):
        form = {"form_token": form_token(client.get("/console/login")), "token": OPERATOR, "name": "ada"}
        client.post("/console/login", data=form)
        yield World(service, redis_client, bucket, client, folder)


def an_upload() -> str:
    return str(new_media_id(JPEG, int(time.time() * 1000)))


def a_record_of(media_id: str) -> Held:
    return Held(media_id, "2026-11-20T08:00:00.000+00:00", "pdq of list own", QUEUE, {}, sha256=SHA256)


def a_held_copy(world: World) -> str:
    media_id = str(remote_id_for(f"https://remote.example/{time.monotonic_ns()}.jpg"))
    world.put(f"{keys.HELD_PREFIX}{media_id}", HELD.write(a_record_of(media_id)))
    world.put(f"{keys.QUARANTINE_PREFIX}{media_id}/preview", b"\xff\xd8\xff")
    return media_id


def a_blocked_upload(world: World) -> str:
    media_id = an_upload()
    block = Block(media_id, "2026-11-20T08:00:00.000+00:00", by="ada", state=BlockState.REMOVED)
    world.put(keys.block(media_id), write_block(block))
    return media_id


def a_deleted_upload(world: World) -> str:
    media_id = new_media_id(JPEG, int(time.time() * 1000))
    world.put(keys.incoming(media_id), b"x")
    world.on_redis(lambda redis: DeletionRecords(redis).mark([media_id.text], delay_s=3600))
    return media_id.text


def a_dead_letter(world: World) -> str:
    fields = {"task_id": "t", "media_id": an_upload(), "error": "internal: x", "attempts": "1"}
    return str(world.redis.xadd(f"{{{QUEUE}}}:dlq", fields))


def on_dead_letter(word: str) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        entry_id = a_dead_letter(world)
        return Case(("dlq", word, entry_id), {"target": f"{QUEUE}/{entry_id}"})

    return prepare


def replay_all(world: World) -> Case:
    a_dead_letter(world)
    world.on_redis(lambda redis: BulkJobs(redis, QUEUE).cancel("replay"))
    command = ("dlq", "replay", "--queue", "cache", "--error", "internal", "--rate", "5")
    return Case(command, {"queue": QUEUE, "rate": "5"}, route=f"/queues/{QUEUE}/replay?rate=5")


def undelete_all(world: World) -> Case:
    world.on_redis(lambda redis: BulkJobs(redis, DELETE_QUEUE).cancel("undelete"))
    return Case(
        ("undelete", "--owner", "ada", "--rate", "5"), {"target": "owner:ada"}, route="/undelete?owner=ada&rate=5"
    )


def on_job(word: str) -> Callable[[World], Case]:
    async def begin(redis: Redis) -> None:
        jobs = BulkJobs(redis, QUEUE)
        await jobs.cancel("replay")
        await jobs.begin_replay(DeadLetterFilter(), rate=1.0, by="bob")
        if word == "resume":
            await jobs.pause("replay")

    def prepare(world: World) -> Case:
        world.on_redis(begin)
        return Case(("jobs", word, "cache.replay"), {"target": "cache.replay"}, route=f"/jobs/cache.replay/{word}")

    return prepare


def on_queue(word: str) -> Callable[[World], Case]:
    route = f"/queues/{QUEUE}/{word}?note={quote(NOTE)}"
    return lambda _world: Case(("queues", word, "cache"), {"target": QUEUE}, route=route)


def cancel(world: World) -> Case:
    task_id = f"t-{time.monotonic_ns()}"
    world.redis.xadd(QUEUE, {"task_id": task_id, "remote_url": "https://remote.example/a.jpg"})
    command = ("queues", "cancel", "cache", task_id)
    return Case(command, {"target": f"{QUEUE}/{task_id}"}, route=f"/queues/{QUEUE}/cancel?task_id={task_id}")


def delete(_world: World) -> Case:
    media_id = an_upload()
    return Case(("delete", media_id), {"target": media_id})


def undelete(world: World) -> Case:
    media_id = a_deleted_upload(world)
    return Case(("undelete", media_id), {"target": media_id})


def process_again(world: World) -> Case:
    media_id, facts = new_media_id(JPEG, round(time.time() * 1000)), MediaFacts(JPEG, 3, 1, 1, "", SHA256)
    key, metadata = keys.original(media_id), facts.to_metadata()
    world.bucket.client.put_object(Bucket=world.bucket.bucket, Key=key, Body=b"jpg", Metadata=metadata)
    return Case(form={"target": str(media_id)})


def block(_world: World) -> Case:
    media_id = an_upload()
    request = wire.BlockMediaRequest(media_id=media_id, note=NOTE)
    return Case(("block", media_id, "--note", NOTE), {"target": media_id}, request=request)


def refuse(world: World) -> Case:
    return Case(("review", "block", a_held_copy(world), "--note", NOTE))


def unblock(world: World) -> Case:
    media_id = a_blocked_upload(world)
    command = ("unblock", media_id, "--note", NOTE)
    return Case(command, {"target": media_id}, request=wire.UnblockMediaRequest(media_id=media_id))


def release(world: World) -> Case:
    media_id = a_held_copy(world)
    return Case(("review", "release", media_id, "--note", NOTE), {"target": media_id})


def a_host() -> str:
    return f"h{time.monotonic_ns()}.example"


def block_host(_world: World) -> Case:
    return Case(("hosts", "block", a_host(), "--note", NOTE), {"target": a_host()})


def unblock_host(world: World) -> Case:
    host = a_host()
    world.by_button(Case(form={"target": host}), "block_host")
    return Case(("hosts", "unblock", host, "--note", NOTE), {"target": host})


def look(world: World) -> Case:
    return Case(page=f"/console/moderation/{a_held_copy(world)}/preview")


def evidence(world: World) -> Case:
    media_id = a_held_copy(world)
    command = ("evidence", "export", media_id, str(world.folder / f"{media_id}.zip"))
    return Case(command, page=f"/console/moderation/{media_id}/evidence")


def hold_evidence(world: World) -> Case:
    media_id = a_blocked_upload(world)
    world.put(keys.evidence(parse_any_id(media_id), "original"), b"x")
    command = ("evidence", "hold", media_id, "--until", "2100-01-31", "--report", NOTE)
    return Case(command, {"target": media_id, "until": "2100-01-31", "requested_at": "2026-11-20T08:00"})


def discard_evidence(world: World) -> Case:
    media_id = a_blocked_upload(world)
    world.put(keys.evidence(parse_any_id(media_id), "original"), b"x")
    return Case(("evidence", "discard", media_id, "--reason", NOTE), {"target": media_id})


def dismiss(world: World) -> Case:
    media_id = an_upload()
    world.put(f"{keys.NOTICE_PREFIX}{media_id}", NOTICE.write(Notice(media_id, "2026-11-20T08:00:00.000+00:00")))
    return Case(("review", "dismiss", media_id, "--note", NOTE), {"target": media_id})


def add_entry(_world: World) -> Case:
    digest = hashlib.sha256(str(time.monotonic_ns()).encode()).hexdigest()
    return Case(form={"type": "sha256", "hash": digest, "label": "an advert"})


def remove_entry(world: World) -> Case:
    form = add_entry(world).form
    world.by_button(Case(form=form), "list")
    return Case(form={"target": f"sha256,{form['hash']},an advert"})


def kill(world: World) -> Case:
    eventually(world.service.ready, "every node to run again")
    tree = world.client.get("/tree").json()
    paths = sorted(each["path"] for each in nodes_of(tree))
    seed = next(seed for seed in range(10_000) if killed_first(seed, paths) == "service/origin")
    command = ("chaos", "--seed", str(seed), "--seconds", "0.4")  # one kill, after the first pause
    return Case(command, {"target": "service/origin"}, route="/chaos/kill?path=service/origin")


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in node["children"]:
        yield child
        yield from nodes_of(child)


def killed_first(seed: int, paths: list[str]) -> str:
    """As the command chooses."""
    chance = random.Random(seed)
    chance.uniform(*PAUSE_S)
    return chance.choice(paths)


def import_list(world: World) -> Case:
    file = world.folder / "others.csv"
    file.write_text(f"type,hash,label\nsha256,{SHA256},one\n")
    return Case(("blocklist", "import", str(file)))


def import_media(world: World) -> Case:
    manifest = world.folder / "media.csv"
    manifest.write_text("source,name,date,owner\n")
    return Case(("import", str(manifest)))


CASES: dict[str, Callable[[World], Case]] = {
    "replay": on_dead_letter("replay"),
    "replay_all": replay_all,
    "undelete_all": undelete_all,
    "pause_job": on_job("pause"),
    "resume_job": on_job("resume"),
    "cancel_job": on_job("cancel"),
    "drop": on_dead_letter("drop"),
    "delete": delete,
    "undelete": undelete,
    "process_again": process_again,
    "pause": on_queue("pause"),
    "resume": on_queue("resume"),
    "block": block,
    "refuse": refuse,
    "unblock": unblock,
    "release": release,
    "look": look,
    "export_evidence": evidence,
    "hold_evidence": hold_evidence,
    "discard_evidence": discard_evidence,
    "dismiss": dismiss,
    "block_host": block_host,
    "unblock_host": unblock_host,
    "purge_host": lambda _world: Case(("hosts", "purge", a_host()), {"target": a_host()}),
    "cancel": cancel,
    "list": add_entry,
    "unlist": remove_entry,
    "kill": kill,
    "import_list": import_list,
    "import_media": import_media,
    "rotate_tokens": lambda _world: Case(("tokens", "rotate")),
    "export_owner": lambda world: Case(("owner", "export", "alice", str(world.folder / f"{time.monotonic_ns()}.zip"))),
    "sweep": lambda _world: Case(("sweep",)),
    "init": lambda _world: Case(("init",)),
}


def test_the_archive_has_the_files_the_records_and_the_hash_of_each(world: World) -> None:
    media_id = a_held_copy(world)
    kept = {"incoming": random.Random(7).randbytes(700_000), "preview": b"\xff\xd8\xff"}
    world.put(keys.evidence(parse_any_id(media_id), "incoming"), kept["incoming"])
    world.by_button(Case(page=f"/console/moderation/{media_id}/preview"), "look")
    response = world.client.get(f"/console/moderation/{media_id}/evidence")
    assert response.headers["Content-Disposition"] == f'attachment; filename="evidence-{media_id}.zip"'
    path = world.folder / "command.zip"
    command = Case(("evidence", "export", media_id, str(path)))
    world.by_command(command, "export_evidence")
    for file in (io.BytesIO(response.content), path):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            found = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(found.pop("manifest.json"))
        described = {each["name"]: (each["size_bytes"], each["sha256"]) for each in manifest["files"]}
        assert described == {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in found.items()}
        assert manifest["media_id"] == media_id
        assert {name: found[f"evidence/{name}"] for name in kept} == kept
        assert HELD.read(found["records/held.json"], "") == a_record_of(media_id)
        assert json.loads(found["records/entry.json"]) == {"match": "pdq of list own"}
        audit = json.loads(found["records/audit.json"])
        audited = [(each["action"], each["actor"].partition(" ")[0]) for each in audit]
        assert audited[-1] == ("look", "ada")
    again = world.service.run_cli(*command.command)
    assert again.returncode == 1
    assert "File exists" in again.stderr
    assert world.client.get(f"/console/moderation/{an_upload()}/evidence").status_code == 404


@pytest.mark.parametrize(("name", "door"), DOORS)
def test_an_action_is_recorded_once_with_who_what_note_and_result(world: World, name: str, door: str) -> None:
    case = CASES[name](world)
    before = {each.entry_id for each in records_in(world.bucket)}
    {"command": world.by_command, "button": world.by_button, "route": world.by_route, "method": world.by_method}[door](
        case, name
    )
    (entry,) = [each for each in records_in(world.bucket) if each.entry_id not in before]
    assert (entry.action, entry.outcome) == (name, "ok")
    assert entry.entrance == entrance(name, door)
    assert entry.target
    result, _, note = entry.note.partition(" Note: ")
    given = {"command": NOTE in case.command, "method": getattr(case.request, "note", "") == NOTE}
    assert note == (NOTE if given.get(door, "note" in OPERATIONS[name].takes) else "")
    assert result
    assert "Not " not in result
    assert entry.actor.startswith(who(name, door))


def entrance(name: str, door: str) -> str:
    """The entrance of this door: `chaos` uses the admin port."""
    if door == "command":
        return "admin" if name == "kill" else "command"
    return {"button": "console", "route": "admin", "method": "grpc"}[door]


def who(name: str, door: str) -> str:
    """The operator of this door."""
    if door == "method":
        return "moderation"
    if door == "button":
        return "ada (token "
    if door == "route" or name == "kill":
        return "token "
    return f"{getpass.getuser()}@{socket.gethostname()}"


def test_every_action_says_how_it_is_undone_or_that_it_is_final() -> None:
    for name, row in OPERATIONS.items():
        assert row.undo or row.is_final or name in ("cancel_job", "sweep", "init"), name
        assert row.perform is not None or name in ONLY_BY_COMMAND, name

"""Every change is on record, by whatever entrance: the tables name every method, route and command, and calls leave
exactly one record. What is missing afterwards is named by `avion-media audit verify`.

`test_operations.py` drives each action of people by each of its doors.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import httpx
import pytest
import redis as redis_py

from avion_media.cli import _COMMANDS
from avion_media.cli.recorded import COMMANDS
from avion_media.common.clock import now_s
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.operations.table import OPERATIONS
from avion_media.process.audit.record import END, START, AuditRecord, Kind, kind_of, place_of, read_line
from avion_media.servers.admin.application import ROUTES
from avion_media.servers.api.recorded import METHODS, Kept
from tests.audit_log import objects_in, records_in
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment

SERVERS = Path(__file__).resolve().parents[2] / "avion_media/servers"
OTHER_ROUTES = {
    "/console/actions": "buttons: rows of OPERATIONS",
    "/console/review": "decisions: release, refuse and block_host, once they apply",
    "/console/uploads": "the calls of an upload, by METHODS",
    "/console/uploads/{media_id}/complete": "the same",
    "/console/login": "a session; a wrong token is recorded as refused",
    "/console/logout": "a session",
}
"""What routes change that take other requests than GET, besides those of `ROUTES`."""
GATEWAY, MODERATION = "a-gateways-token-of-32-characters", "a-moderators-token-of-32-characters"
BY_CALL = {name: row for name, row in METHODS.items() if row is not None}


def test_every_method_has_a_row() -> None:
    methods = set(wire.DESCRIPTOR.services_by_name["MediaService"].methods_by_name)
    assert METHODS.keys() == methods, "say in servers/api/recorded.py what each method changes, or that it is nothing"
    unknown = {row.action for row in BY_CALL.values() if row.kept is Kept.ACTION} - OPERATIONS.keys()
    assert not unknown, "these need a row in operations/table.py"


def test_every_command_has_a_row() -> None:
    found: set[str] = set()
    for name, (module, _) in _COMMANDS.items():
        command = getattr(importlib.import_module(f"avion_media.cli.{module}"), f"{name}_command")
        found.update(words_of(name, command))
    assert found == COMMANDS.keys(), "say in cli/recorded.py what each command changes, or that it is nothing"
    assert {each for row in COMMANDS.values() for each in row} <= OPERATIONS.keys()


def words_of(name: str, command: click.Command) -> Iterator[str]:
    """The words of a command and of those below it."""
    if not isinstance(command, click.Group):
        yield name
        return
    if command.invoke_without_command:
        yield name
    for below, each in command.commands.items():
        yield from words_of(f"{name} {below}", each)


def test_every_route_that_changes_something_has_a_row() -> None:
    nodes = [node for path in SERVERS.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Route"]
    changing = [node.args[0] for node in calls if any(each.arg == "methods" for each in node.keywords)]
    found = {str(path.value) for path in changing if isinstance(path, ast.Constant)}
    assert found == OTHER_ROUTES.keys(), "say in OTHER_ROUTES what each route changes, and record it"
    assert ROUTES.keys() <= OPERATIONS.keys()


@pytest.fixture
def environment(
    redis_of_process: str, redis_client: redis_py.Redis, bucket: S3Bucket, tmp_path: Path
) -> dict[str, str]:
    redis_client.flushall()
    for key in objects_in(bucket):
        bucket.client.delete_object(Bucket=bucket.bucket, Key=key)
    callers = tmp_path / "callers.toml"
    tables = []
    for name, token, methods in (("gateway", GATEWAY, '"*"'), ("moderation", MODERATION, '"BlockMedia"')):
        digest = hashlib.sha256(token.encode()).hexdigest()
        tables.append(f'[callers.{name}]\nmethods = [{methods}]\ntokens_sha256 = ["{digest}"]\n')
    callers.write_text("".join(tables))
    settings = {"GRPC__AUTH": "token", "GRPC__CALLERS_FILE": str(callers)}
    return service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)


def an_id(*, private: bool = False) -> str:
    return str(new_media_id(JPEG, int(now_s() * 1000), private=private))


class Calls:
    """Calls of one caller."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_error: object) -> None:
        self._channel.close()

    def call(self, request: Any, token: str = GATEWAY, method: str = "") -> Any:
        """Make one call. Return its response, or its code."""
        method = method or type(request).__name__.removesuffix("Request")
        answer = getattr(wire, f"{method}Response")
        call = self._channel.unary_unary(
            f"/avion.MediaService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, metadata=[("authorization", f"Bearer {token}")], timeout=30)
        except grpc.RpcError as error:
            return error.code().name


def upload_request(**more: Any) -> wire.RequestMediaUploadRequest:
    return wire.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=10, **more)


def each_call(calls: Calls, bucket: S3Bucket) -> dict[str, tuple[str, ...]]:
    """Make a call of each method that changes something. Return the ids of each."""
    made: dict[str, tuple[str, ...]] = {}

    def make(request: Any, *ids: str) -> Any:
        response = calls.call(request)
        assert not isinstance(response, str), (request, response)
        made[type(request).__name__.removesuffix("Request")] = ids
        return response

    upload = make(upload_request(), "one").media_id
    bucket.client.put_object(Bucket=bucket.bucket, Key=f"incoming/{upload}", Body=b"0123456789")
    make(wire.CompleteMediaUploadRequest(media_id=upload), "one")
    parts = calls.call(upload_request(multipart=True))
    named = {"media_id": parts.media_id, "upload_id": parts.upload_id}
    make(wire.SignUploadPartsRequest(**named), "one")
    make(wire.AbortMediaUploadRequest(**named), parts.media_id)
    make(wire.CacheRemoteMediaRequest(remote_url="https://remote.example/a.jpg"), "one")
    private = [an_id(private=True), an_id(private=True)]
    make(wire.SignMediaUrlsRequest(media_ids=private, audience="bob"), *private)
    make(wire.RevokeMediaUrlsRequest(media_ids=private, audience="bob"), *private)
    deleted = [an_id() for _ in range(3)]
    for each in deleted:
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"incoming/{each}", Body=b"x")
    make(wire.DeleteMediaRequest(media_ids=deleted), *deleted)
    assert sorted(make(wire.UndeleteMediaRequest(media_ids=deleted), *deleted).restored) == sorted(deleted)
    blocked = an_id()
    make(wire.BlockMediaRequest(media_id=blocked, note="report 7"), blocked)
    make(wire.UnblockMediaRequest(media_id=blocked), blocked)
    make(wire.BlockHostRequest(host="bad.example"), "bad.example")
    make(wire.UnblockHostRequest(host="bad.example"), "bad.example")
    return made


def test_each_method_that_changes_something_leaves_exactly_one_record(
    environment: dict[str, str], bucket: S3Bucket
) -> None:
    with running(environment, roles="grpc") as service, Calls(service.grpc_address) as calls:
        made = each_call(calls, bucket)
        assert made.keys() == BY_CALL.keys(), "make a call of it in each_call"
        assert service.stop() == 0
    people, services = records_in(bucket), records_in(bucket, Kind.CALLS)
    assert not records_in(bucket, Kind.REFUSED)
    for name, row in BY_CALL.items():
        wanted = people if row.kept is Kept.ACTION else services
        if row.kept is Kept.COUNT:  # a minute can end between two calls
            found = [each for each in wanted if each.action == row.action]
            count = 2 if name == "RequestMediaUpload" else 1
            assert sum(int(each.note.split()[0]) for each in found) == count, name
            assert sum(each.target for each in found if isinstance(each.target, int)) >= len(made[name]), name
        else:
            found = [each for each in wanted if each.action == row.action]
            targets = [target for each in found for target in (() if isinstance(each.target, int) else each.target)]
            assert sorted(targets) == sorted(made[name]), name
            assert len(found) == 1, name
        assert {(each.entrance, each.actor, each.outcome) for each in found} == {("grpc", "gateway", "ok")}, name
    assert len(people) == 4
    assert [each.note for each in services if each.action == "sign"] == ["1 calls in a minute, audience bob"]
    assert service.run_cli("audit", "verify").returncode == 0
    for row in BY_CALL.values():
        listed = () if row.kept is Kept.ACTION else ("--calls",)
        shown = json.loads(service.run_cli("audit", "--action", row.action, "--json", *listed).stdout)
        assert shown, row.action


def test_what_was_refused_is_counted_by_caller_and_code_and_only_there(
    environment: dict[str, str], bucket: S3Bucket
) -> None:
    with running(environment, roles="grpc") as service, Calls(service.grpc_address) as calls:
        for _ in range(3):
            assert calls.call(wire.DeleteMediaRequest(media_ids=["nonsense"])) == "INVALID_ARGUMENT"
            assert calls.call(wire.BlockMediaRequest(media_id="nonsense"), MODERATION) == "INVALID_ARGUMENT"
            assert calls.call(wire.UnblockMediaRequest(media_id=an_id())) == "FAILED_PRECONDITION"
            assert calls.call(wire.DeleteMediaRequest(media_ids=[an_id()]), MODERATION) == "PERMISSION_DENIED"
            assert calls.call(wire.DeleteMediaRequest(media_ids=[an_id()]), "no-token") == "UNAUTHENTICATED"
        assert service.stop() == 0
    assert not records_in(bucket)
    assert not records_in(bucket, Kind.CALLS)
    counts = Counter[tuple[str, str, str]]()
    for each in records_in(bucket, Kind.REFUSED):
        assert isinstance(each.target, int)
        counts[each.actor, each.action, each.outcome] += each.target
    assert counts == {
        ("gateway", "delete", "INVALID_ARGUMENT"): 3,
        ("moderation", "block", "INVALID_ARGUMENT"): 3,
        ("gateway", "unblock", "FAILED_PRECONDITION"): 3,
        ("moderation", "delete", "PERMISSION_DENIED"): 3,
        ("anyone at 127.0.0.1", "delete", "UNAUTHENTICATED"): 3,
    }


def test_2000_refused_previews_do_not_hide_ten_actions_of_operators(
    environment: dict[str, str], bucket: S3Bucket, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{GATEWAY} operator ada\n{MODERATION} moderator mallory\n")
    environment |= {"AVION_MEDIA_ADMIN__TOKEN_FILE": str(tokens)}
    with (
        running(environment, roles="grpc") as service,
        httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=30) as client,
    ):
        ada, mallory = ({"Authorization": f"Bearer {token}"} for token in (GATEWAY, MODERATION))
        for number in range(10):
            word = ("pause", "resume")[number % 2]
            assert client.post(f"/queues/media_cache_queue/{word}", headers=ada).status_code == 200
            for each in range(200):
                page = f"/console/moderation/nosuch{number}-{each}/preview"
                assert client.get(page, headers=mallory).status_code == 404
        page = client.get("/console/audit", headers=ada).text
        assert page.count('data-label="When"') == 10
        assert page.count("queue</b>") == 10
        assert client.post("/queues/media_cache_queue/pause", headers=mallory).status_code == 403
        assert service.stop() == 0
    shown = json.loads(service.run_cli("audit", "--json").stdout)
    assert [each["action"] for each in shown] == ["resume", "pause"] * 5
    refused = json.loads(service.run_cli("audit", "--refused", "--json").stdout)
    counts = Counter[tuple[str, str, str]]()
    for each in refused:
        counts[each["actor"].partition(" ")[0], each["action"], each["outcome"]] += each["target"]
    assert sorted(counts.values()) == [1, 2000]
    assert counts["mallory", "pause", "PERMISSION_DENIED"] == 1


def chains(bucket: S3Bucket) -> dict[str, list[AuditRecord]]:
    """All chains, in their order."""
    found: dict[str, list[AuditRecord]] = {}
    for key, body in sorted(objects_in(bucket).items()):
        place = place_of(key)
        assert place is not None
        found.setdefault(place.process, []).extend(map(read_line, body.splitlines()))
    return found


def test_a_process_begins_and_ends_its_log(environment: dict[str, str], bucket: S3Bucket) -> None:
    with running(environment, roles="grpc,http") as service:
        assert service.stop() == 0
    ((_, records),) = chains(bucket).items()
    assert [each.action for each in records] == [START, END]
    assert "roles: grpc, http" in records[0].note


def kill(service: Service) -> None:
    service.process.kill()
    service.process.wait()


def test_a_killed_process_is_named_and_then_explained(
    environment: dict[str, str], bucket: S3Bucket, redis_client: redis_py.Redis
) -> None:
    with running(environment, roles="grpc") as service:
        (name,) = eventually(lambda: sorted(chains(bucket)), "the start is on record")
        shown = service.run_cli("audit", "verify")
        assert (shown.returncode, f"{name}: open after record 1, its process runs" in shown.stdout) == (0, True)
        eventually(lambda: redis_client.hget("media_replicas", name), "it is on the list of replicas")
        kill(service)
        was = json.loads(redis_client.hget("media_replicas", name) or "")
        redis_client.hset("media_replicas", name, json.dumps(was | {"at": now_s() - 60}))
        shown = service.run_cli("audit", "verify")
        assert shown.returncode == 1
        assert f"{name}: no end after record 1" in shown.stderr
        assert service.run_cli("sweep").returncode == 0
        shown = service.run_cli("audit", "verify")
        assert shown.returncode == 0, shown.stderr
        assert f"{name}: no end after record 1" in shown.stdout
        assert "explained: its process was lost" in shown.stdout
        assert service.run_cli("sweep").returncode == 0
        lost = [each for records in chains(bucket).values() for each in records if each.action == "lost"]
        assert len(lost) == 1


def remove_object(bucket: S3Bucket, key: str) -> None:
    bucket.client.delete_object(Bucket=bucket.bucket, Key=key)


def change_line(bucket: S3Bucket, key: str) -> None:
    body = objects_in(bucket)[key].replace(b"report 7", b"report 8")
    bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=body)


@pytest.mark.parametrize(("tamper", "named"), [(remove_object, "missing"), (change_line, "was changed")])
def test_verify_names_a_removed_object_and_a_changed_line(
    environment: dict[str, str], bucket: S3Bucket, tamper: Callable[[S3Bucket, str], None], named: str, tmp_path: Path
) -> None:
    with running(environment, roles="grpc") as service, Calls(service.grpc_address) as calls:
        calls.call(wire.BlockMediaRequest(media_id=an_id(), note="report 7"))
        assert service.stop() == 0
    exported = tmp_path / "audit.jsonl"
    assert service.run_cli("audit", "export", str(exported)).returncode == 0
    assert exported.read_bytes() == b"".join(objects_in(bucket)[key] for key in sorted(objects_in(bucket)))
    assert service.run_cli("audit", "export", str(exported)).returncode == 2
    (key,) = [key for key, body in objects_in(bucket).items() if b"report 7" in body]
    last = chains(bucket)[place_of(key).process][-1]  # type: ignore[union-attr]
    noted = f"{last.process}={last.hash}"
    assert service.run_cli("audit", "verify", "--hash", noted).returncode == 0
    assert service.run_cli("audit", "verify", "--hash", f"{last.process}={'0' * 64}").returncode == 1
    tamper(bucket, key)
    found = service.run_cli("audit", "verify", "--json")
    assert found.returncode == 1
    (gap,) = json.loads(found.stdout)["gaps"]
    assert named in gap
    assert gap in found.stderr


def test_days_beyond_the_keep_are_removed_and_that_is_recorded(environment: dict[str, str], bucket: S3Bucket) -> None:
    with running(environment, roles="grpc") as service, Calls(service.grpc_address) as calls:
        calls.call(wire.BlockMediaRequest(media_id=an_id()))
        assert service.stop() == 0
    for key, body in objects_in(bucket).items():
        place = place_of(key)
        assert place is not None
        assert kind_of(place.process) is Kind.PEOPLE
        if place.number == 1:  # as if the process had begun long ago
            old = f"audit/2020/01/01/{place.process}/00000001.jsonl"
            bucket.client.put_object(Bucket=bucket.bucket, Key=old, Body=body)
            bucket.client.delete_object(Bucket=bucket.bucket, Key=key)
    assert service.run_cli("audit", "verify").returncode == 0
    assert service.run_cli("sweep").returncode == 0
    assert not [key for key in objects_in(bucket) if key.startswith("audit/2020")]
    (removed,) = [each for records in chains(bucket).values() for each in records if each.action == "expire"]
    assert "1 objects of the audit log removed" in removed.note
    shown = service.run_cli("audit", "verify")
    assert shown.returncode == 0, shown.stderr

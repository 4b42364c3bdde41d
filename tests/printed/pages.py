"""What each page presumes: the values of its placeholders, files in the operator's folder, what it says in words."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from avion_media.common.wire.avion import media_pb2 as wire
from tests.printed.commands import ROOT, name_of
from tests.printed.stage import CALLER_TOKEN, Value, World
from tests.service.harness import eventually

DATA = ROOT / "tests/data"


@dataclass
class Play:
    """A page while its commands are run. Each of ``steps`` is done once, after its command, run or listed."""

    values: Mapping[str, Value] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    steps: dict[str, Callable[[], object]] = field(default_factory=dict)

    def after(self, command: str) -> None:
        """Do the step that follows a command, if there is one."""
        if command in self.steps:
            self.steps.pop(command)()


@contextmanager
def prepared(page: Path, world: World) -> Iterator[Play]:
    """Prepare a page. All steps must have been done in the end."""
    prepare = PREPARED.get(name_of(page).removeprefix("docs/"))
    play = prepare(world) if prepare else Play()
    media_id = world.upload()
    common: dict[str, Value] = {
        r"127\.0\.0\.1:9090": world.environment["AVION_MEDIA_ADMIN__BIND"],
        r"(?<=CLIENT__TOKEN=)…": CALLER_TOKEN,
        r"\b(?:MEDIA_ID|ID_OR_URL|ID|01[0-9A-HJKMNP-TV-Z]{24})\b": media_id,
        r"\b(?:ENTRY|\d{13}-\d)\b": world.dead_letter,
        r"\bOWNER\b": "alice",
        r"\bQUEUE\b": "media_processing_queue",
    }
    play.values = {**play.values, **common}
    yield play
    assert play.steps == {}


NEW_TOKEN = "a-new-token-of-the-hook"

# Commands of Kubernetes after which the pages have the replicas stop or start.
STOP = "kubectl --namespace avion-media scale deployment --all --replicas=0"
START = "kubectl --namespace avion-media scale deployment --all --replicas=1"
SWEEP_AGAIN = (
    """kubectl --namespace avion-media patch cronjob/avion-media-sweep --patch '{"spec": {"suspend": false}}'"""
)


def _back_up(world: World) -> Play:
    world.bucket("backup")
    world.bucket("trial")
    return Play({"backup:avion-media": "backup:backup"})


@dataclass
class Published:
    """Media of before a disaster: one that is served, one that is private, one that was deleted."""

    world: World
    kept: str
    private: str
    deleted: str
    token: str

    def are_as_before(self) -> None:
        """Each is answered as it was."""
        get = self.world.service.get
        eventually(lambda: get(f"/media/{self.kept}").status_code == 200, "the media item to be served")
        assert get(f"/media/{self.private}/{self.token}").status_code == 200
        assert get(f"/media/{self.private}").status_code == 404
        assert get(f"/media/{self.deleted}").status_code == 410


def _published(world: World, copy: str = "") -> Published:
    """Publish three media. ``copy`` is a command that runs before the deletion of the last."""
    found = Published(world, world.upload(), world.upload(private=True), world.upload(), "")
    request = wire.SignMediaUrlsRequest(media_ids=[found.private])
    found.token = world.service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens[found.private]
    if copy:
        assert world.run(copy).returncode == 0
    assert world.run(f"avion-media delete {found.deleted}").returncode == 0
    eventually(lambda: world.service.get(f"/media/{found.deleted}").status_code == 410, "the deletion")
    return found


def _recover(world: World) -> Play:
    client = world.bucket("backup")
    before = _published(
        world, "rclone sync --metadata --checksum store:avion-media backup:backup --exclude '/incoming/**'"
    )

    def lose() -> None:
        world.close()
        world.empty(client)

    steps: dict[str, Callable[[], object]] = {STOP: lose, START: world.serve, SWEEP_AGAIN: before.are_as_before}
    return Play({"backup:avion-media": "backup:backup"}, steps=steps)


def _second_region(world: World) -> Play:
    world.bucket("second")
    before = _published(world)
    first = {name: world.environment[name] for name in ("AVION_MEDIA_S3__BUCKET", "AVION_MEDIA_REDIS__URL")}
    redis = world.another_redis()
    second = {"AVION_MEDIA_S3__BUCKET": "second", "AVION_MEDIA_REDIS__URL": redis}

    def go_back() -> None:
        before.are_as_before()
        world.serve(**first)

    steps: dict[str, Callable[[], object]] = {
        "kubectl apply --kustomize ops/kubernetes/overlays/production": lambda: world.serve(**second),
        "avion-media sweep": go_back,
    }
    return Play({"second:avion-media": "second:second"}, second, steps)


def _rotate(world: World) -> Play:
    """All secrets are replaced. The callers' and operators' files are reloaded in tests/service/test_callers.py."""
    certificate = world.folder / "access/tls.pem"
    world.new_certificate(certificate)
    other = world.beside(AVION_MEDIA_GRPC__TLS_CERT=str(certificate))
    connect = "openssl s_client -connect 127.0.0.1:50051 -alpn h2 </dev/null 2>/dev/null"
    look = f"{connect} | openssl x509 -noout -enddate -fingerprint"
    look_here = look.replace("127.0.0.1:50051", other.grpc_address)
    old_key = world.environment["AWS_ACCESS_KEY_ID"]
    old_keys = {"AWS_ACCESS_KEY_ID": old_key, "AWS_SECRET_ACCESS_KEY": world.environment["AWS_SECRET_ACCESS_KEY"]}

    def another_certificate() -> None:
        before = world.run(look_here).stdout
        world.new_certificate(certificate)
        eventually(lambda: world.run(look_here).stdout not in {"", before}, "the new certificate")
        other.stop()

    def new_keys() -> None:
        world.serve(**world.newest_keys())
        world.upload()

    def old_key_is_gone() -> None:
        assert world.run("avion-media doctor store", **old_keys).returncode == 1
        world.upload()

    def new_password() -> None:
        url = world.environment["AVION_MEDIA_REDIS__URL"].replace("old-password", "new-password")
        world.serve(
            AVION_MEDIA_REDIS__URL=url, REDISCLI_AUTH="new-password", AVION_MEDIA_MODERATION__HOOK_TOKEN=NEW_TOKEN
        )

    def old_password_is_gone() -> None:
        assert world.run("redis-cli PING", REDISCLI_AUTH="old-password").returncode != 0
        world.upload()
        assert world.outside.authorization == f"Bearer {NEW_TOKEN}"

    steps: dict[str, Callable[[], object]] = {
        look: another_certificate,
        "radosgw-admin key create --uid=avion --key-type=s3 --gen-access-key --gen-secret": new_keys,
        "radosgw-admin key rm --uid=avion --key-type=s3 --access-key=OLD": old_key_is_gone,
        "REDISCLI_AUTH=old-password redis-cli ACL SETUSER default '>new-password'": new_password,
        "REDISCLI_AUTH=new-password redis-cli ACL SETUSER default '<old-password'": old_password_is_gone,
    }
    return Play({r"127\.0\.0\.1:50051": other.grpc_address, r"\bOLD\b": old_key}, steps=steps)


def _block_media(world: World) -> Play:
    sample = (DATA / "jpeg-orientation-6.jpg").read_bytes()
    (world.folder / "sample.jpg").write_bytes(sample)
    (world.folder / "ncmec.csv").write_text(f"sha256,{hashlib.sha256(sample).hexdigest()},a test\n")
    return Play()


def _control_queues(world: World) -> Play:
    world.dead_letter(copies=400)  # a job of 8 s

    def queued_task() -> str:
        assert world.run("avion-media queues pause processing").returncode == 0
        return world.queued_task()

    steps: dict[str, Callable[[], object]] = {
        "avion-media queues cancel QUEUE TASK…": lambda: world.run("avion-media queues resume processing"),
        "avion-media jobs pause JOB": lambda: world.run(f"avion-media jobs cancel {world.job()}"),
    }
    values: dict[str, Value] = {"TASK…": queued_task, r"\bHOST\b": "bad.example", r"\bNAME\b": "alice"}
    return Play({**values, r"\bJOB\b": world.job}, steps=steps)


def _import_media(world: World) -> Play:
    system = world.folder / "system"
    system.mkdir()
    shutil.copy(DATA / "jpeg-gray.jpg", system / "5f3a.jpeg")
    (world.folder / "media.csv").write_text("source,name,date,owner\n5f3a.jpeg,5f3a.jpeg,2022-11-05 12:33:44,42\n")
    environment = {"AVION_MEDIA_CLIENT__TOKEN": CALLER_TOKEN}
    return Play({"/home/mastodon/live/public/system": str(system), "/etc/nginx": str(world.folder)}, environment)


def _move_buckets(world: World) -> Play:
    world.bucket("moved")
    return Play({"new:avion-media": "new:moved"}, {"AVION_MEDIA_S3__BUCKET": "moved"})


def _review(world: World) -> Play:
    released, blocked = world.held(), world.held()
    ids = iter([released, *[blocked] * 3])
    return Play({r"\bID\b": lambda: next(ids)})


def _upload_in_parts(world: World) -> Play:
    shutil.copy(DATA / "mp4-h264-faststart.mp4", world.folder / "film.mp4")
    return Play()


def _events_missed(world: World) -> Play:
    with world.redis_client() as client:
        client.xgroup_create("media_events", "posts", "0", mkstream=True)
    return Play({r"\bGROUP\b": "posts"})


def _purges_fail(world: World) -> Play:
    return Play({'"varnish.internal", 80': f'"127.0.0.1", {world.outside.port}'})


def _traces_lost(world: World) -> Play:
    return Play(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": world.outside.url})


def _origin_errors(world: World) -> Play:
    world.service.get("/media/nothing")
    return Play()


def _redis_unavailable(_world: World) -> Play:
    return Play({"(?<=maxmemory )…": "1gb"})


def _decide_appeals(world: World) -> Play:
    media_id = world.upload()
    assert world.run(f"avion-media block {media_id}").returncode == 0
    return Play({r"\bID\b": media_id})


PREPARED: dict[str, Callable[[World], Play]] = {
    "how-to/back-up.md": _back_up,
    "how-to/block-media.md": _block_media,
    "how-to/control-queues.md": _control_queues,
    "how-to/decide-appeals.md": _decide_appeals,
    "how-to/import-media.md": _import_media,
    "how-to/move-buckets.md": _move_buckets,
    "how-to/recover-a-lost-bucket.md": _recover,
    "how-to/review-held-media.md": _review,
    "how-to/rotate-credentials.md": _rotate,
    "how-to/second-region.md": _second_region,
    "how-to/upload-in-parts.md": _upload_in_parts,
    "runbooks/events-missed.md": _events_missed,
    "runbooks/origin-errors.md": _origin_errors,
    "runbooks/purges-fail.md": _purges_fail,
    "runbooks/redis-unavailable.md": _redis_unavailable,
    "runbooks/review-waits.md": _review,
    "runbooks/traces-lost.md": _traces_lost,
}

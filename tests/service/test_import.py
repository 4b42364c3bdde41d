"""`avion-media import`: a Mastodon instance moves in, twice, and with an interruption."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from avion_media.common.ids import parse_media_id
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.commands import start_service
from tests.service.harness import Service, eventually
from tests.service.remote_server import remote_server

SAMPLES = ("webp-orientation-6.webp", "jpeg-gray.jpg", "mp4-h264-rotated-90-tiny.mp4", "avif-irot-imir.avif")


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"REMOTE__ALLOW_NETWORKS": "127.0.0.1/32", "HTTP__PUBLIC_URL": "https://media.example"}


@dataclass
class Mastodon:
    """The directory `public/system` of an instance, and what its table `media_attachments` says of it."""

    root: Path
    manifest: Path

    def read_map(self) -> dict[str, dict[str, str]]:
        with self.manifest.with_suffix(".map.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {row["source"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def import_it(self, service: Service, *, status: int = 0) -> dict[str, Any]:
        ended = service.run_cli("import", str(self.manifest), "--root", str(self.root), "--json")
        assert ended.returncode == status, ended.stderr
        summary: dict[str, Any] = json.loads(ended.stdout)
        return summary


def an_instance(directory: Path, samples: Path, first_id: int) -> Mastodon:
    """Its files lie as Paperclip lays them: the id in groups of three digits, a hash as the name."""
    root, manifest = directory / "public/system", directory / "media.csv"
    with manifest.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("source", "name", "date", "owner"))
        for number, sample in enumerate(SAMPLES):
            attachment_id = f"{first_id + number:018}"
            groups = "/".join(attachment_id[at : at + 3] for at in range(0, 18, 3))
            name = f"{first_id + number:016x}{Path(sample).suffix}"
            source = f"media_attachments/files/{groups}/original/{name}"
            (root / source).parent.mkdir(parents=True)
            (root / source).write_bytes((samples / sample).read_bytes())
            lines.writerow((source, name, f"2019-0{number + 1}-15 08:00:00.5", f"{1000 + number % 2}"))
    return Mastodon(root, manifest)


def objects(bucket: S3Bucket) -> dict[str, str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket).get("Contents", ())
    found = {each["Key"]: each["LastModified"].isoformat() for each in listed}
    return {key: modified for key, modified in found.items() if not key.startswith("audit/")}


def test_an_instance_is_imported_and_a_second_import_makes_nothing(
    service: Service, bucket: S3Bucket, redis_client: Any, tmp_path: Path, data_directory: Path
) -> None:
    mastodon = an_instance(tmp_path, data_directory, 109_501_234_567_890_123)
    summary = mastodon.import_it(service)
    assert (summary["imported"], summary["already_there"], summary["failed"]) == (4, 0, [])
    redirects = mastodon.read_map()
    assert len(redirects) == 4
    for number, (source, row) in enumerate(sorted(redirects.items())):
        media_id = row["media_id"]
        assert row["url"] == f"https://media.example/media/{media_id}"
        assert f"{parse_media_id(media_id).created:%Y-%m-%d %H:%M:%S.%f}" == f"2019-0{number + 1}-15 08:00:00.500000"
        assert service.status(media_id).state == wire.MediaStatus.READY, source
        assert service.get(f"/media/{media_id}").status_code == 200
        assert service.get(f"/thumbnail/small/{media_id}").status_code == 200
    owners = json.loads(service.run_cli("usage", "--json").stdout)
    assert sorted((each["owner"], each["count"]) for each in owners) == [("1000", 2), ("1001", 2)]

    def queued() -> int:
        return int(redis_client.xinfo_stream(PROCESSING_QUEUE)["entries-added"])

    stored, tasks = objects(bucket), queued()
    assert not [key for key in stored if key.startswith("incoming/")]
    again = mastodon.import_it(service)
    assert (again["imported"], again["already_there"]) == (0, 4)
    mastodon.manifest.with_suffix(".map.csv").unlink()  # the map is lost: the ids are the same all the same
    redis_client.delete(*redis_client.scan_iter("media_status:*"))
    again = mastodon.import_it(service)
    assert (again["imported"], again["already_there"]) == (0, 4)
    assert mastodon.read_map() == redirects
    assert objects(bucket) == stored
    assert queued() == tasks


def test_a_killed_import_goes_on(service: Service, bucket: S3Bucket, tmp_path: Path, data_directory: Path) -> None:
    mastodon = an_instance(tmp_path, data_directory, 109_000_000_000_000_000)
    command = ("import", str(mastodon.manifest), "--root", str(mastodon.root), "--at-once", "1")
    before = objects(bucket)
    with open(os.devnull, "wb") as nowhere:
        process = start_service(command, service.environment, nowhere.fileno(), nowhere.fileno())
    map_path = mastodon.manifest.with_suffix(".map.csv")
    eventually(lambda: map_path.exists() and map_path.read_text().count("\n") >= 2, "one to be imported")
    process.kill()
    process.wait()

    summary = mastodon.import_it(service)
    assert summary["imported"] + summary["already_there"] == 4
    redirects = mastodon.read_map()
    assert len(redirects) == 4
    made = objects(bucket).keys() - before.keys()
    assert {key.rpartition("/")[2].partition(".")[0] for key in made if key.startswith("original/")} == {
        row["media_id"] for row in redirects.values()
    }


def test_files_come_from_urls_and_names_need_no_extension(
    service: Service, tmp_path: Path, data_directory: Path
) -> None:
    with remote_server({"/a": (data_directory / "jpeg-gray.jpg").read_bytes()}) as remote:
        manifest = tmp_path / "remote.csv"
        manifest.write_text(f"date,source\n2020-01-01,{remote.url}/a\n2020-01-01,{remote.url}/missing\n")
        ended = service.run_cli("import", str(manifest))
        assert ended.returncode == 1
        assert ended.stdout == "1 imported, 0 already there, 1 failed\n"
        assert f"remote.csv:3: {remote.url}/missing: remote_status" in ended.stderr
        with manifest.with_suffix(".map.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert parse_media_id(row["media_id"]).format.name == "jpeg"


def test_each_file_that_cannot_be_imported_is_named_and_the_others_are(
    service: Service, tmp_path: Path, data_directory: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"not below the root")
    for sample in ("jpeg-gray.jpg", "html-named.jpg", "zip-named.jpg", "zero-byte.jpg"):
        (tmp_path / "tree" / sample).write_bytes((data_directory / sample).read_bytes())
    manifest = tmp_path / "mixed.csv"
    sources = ["jpeg-gray.jpg", "html-named.jpg", "zero-byte.jpg", "gone.jpg", "../secret.jpg", "zip-named.jpg,blob"]
    rows = [each if "," in each else f"{each}," for each in sources]
    manifest.write_text("source,name,date\n" + "".join(f"{row},2021-05-05\n" for row in rows))
    ended = service.run_cli("import", str(manifest), "--root", str(tmp_path / "tree"), "--json")
    assert ended.returncode == 1
    summary = json.loads(ended.stdout)
    assert summary["imported"] == 1
    problems = {each["source"]: each["error"] for each in summary["failed"]}
    assert problems == {
        "html-named.jpg": "unsupported_type",
        "zero-byte.jpg": "size: must be greater than zero",
        "gone.jpg": "No such file or directory",
        "../secret.jpg": f"it is not below {tmp_path / 'tree'}",
        "zip-named.jpg": "neither its name nor its content is that of an accepted format (zip)",
    }

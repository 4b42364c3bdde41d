"""Traces of the whole service, as a collector sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, json_lines, running
from tests.service.remote_server import remote_server
from tests.telemetry.collector import Collector, SeenSpan, below, one
from tests.telemetry.traced import COMPLETE, PROCESS, REQUEST, SEND, environment, trace_of


@dataclass(frozen=True)
class DocumentedSpan:
    """A row of the table in docs/telemetry.md. ``pattern`` is the name, with variable parts in braces."""

    pattern: str
    kind: str
    attributes: frozenset[str]

    def matches(self, span: SeenSpan) -> bool:
        words = re.split(r"(\{[a-z]+\})", self.pattern)
        name = "".join(r"\S+" if each.startswith("{") else re.escape(each) for each in words)
        return self.kind.upper() == span.kind and re.fullmatch(name, span.name) is not None


def documented_spans() -> list[DocumentedSpan]:
    text = (Path(__file__).parents[2] / "docs/telemetry.md").read_text()
    rows = text.partition("| span | kind | what | below | attributes |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [DocumentedSpan(row[0].strip("`"), row[1], frozenset(re.findall("`(.*?)`", row[-1]))) for row in cells]


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, otlp: Collector) -> Iterator[Service]:
    with running(
        environment(redis_of_process, bucket, otlp, DELETE__DELAY="0", REMOTE__ALLOW_NETWORKS="127.0.0.1/32")
    ) as service:
        yield service


def test_an_upload_is_one_trace_from_the_request_to_the_decoder(
    service: Service, otlp: Collector, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    status = service.upload("cat.jpg", "image/jpeg", picture)
    assert status.state == wire.MediaStatus.READY
    trace = otlp.complete_trace(trace_of(status.media_id), [REQUEST, COMPLETE, PROCESS])
    request, complete, send, process = (one(trace, name) for name in (REQUEST, COMPLETE, SEND, PROCESS))
    assert (request.kind, request.parent_id) == ("SERVER", "")
    assert (complete.kind, complete.parent_id) == ("SERVER", request.span_id)
    assert (send.kind, send.parent_id) == ("PRODUCER", complete.span_id)
    assert (process.kind, process.parent_id) == ("CONSUMER", send.span_id)
    assert below(trace, complete) == ["S3.HeadObject", SEND]
    assert below(trace, process) == [
        "S3.DeleteObject",
        *["S3.GetObject"] * 2,  # the upload, and the record of its block
        "S3.HeadObject",
        *["S3.PutObject"] * 5,  # original, thumbnails, and the index of copies
        "sandbox picture_job",
    ]
    assert process.attributes["messaging.destination.name"] == "media_processing_queue"
    assert process.attributes["messaging.message.id"] == send.attributes["messaging.message.id"]
    assert process.attributes["avion.task.outcome"] == "done"
    key = f"incoming/{status.media_id}"
    reads = [each for each in trace if each.name == "S3.GetObject" and each.attributes["aws.s3.key"] == key]
    (get,) = reads
    assert (get.kind, get.attributes["rpc.method"]) == ("CLIENT", "S3/GetObject")
    assert not any(span.failed for span in trace)
    assert all(span.start_ns <= span.end_ns for span in trace)
    assert {span.resource["service.name"] for span in trace} == {"media-under-test"}
    assert {span.resource["deployment.environment.name"] for span in trace} == {"tests"}


def test_a_videos_trace_has_each_sandboxed_job(service: Service, otlp: Collector, data_directory: Path) -> None:
    video = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    status = service.upload("clip.mp4", "video/mp4", video)
    assert status.state == wire.MediaStatus.READY
    trace = otlp.complete_trace(trace_of(status.media_id), [PROCESS])
    jobs = {span.name for span in trace if span.parent_id == one(trace, PROCESS).span_id and "sandbox" in span.name}
    assert jobs == {"sandbox plan_job", "sandbox poster_job"}


def test_a_clients_own_trace_is_continued_and_linked(service: Service, otlp: Collector) -> None:
    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    request = wire.RequestMediaUploadRequest(filename="a.png", content_type="image/png", size=10)
    with grpc.insecure_channel(service.grpc_address) as channel:
        granted = channel.unary_unary(
            f"/{REQUEST}",
            request_serializer=wire.RequestMediaUploadRequest.SerializeToString,
            response_deserializer=wire.RequestMediaUploadResponse.FromString,
        )(request, timeout=20, metadata=[("traceparent", f"00-{theirs}-00f067aa0ba902b7-01")])
    span = one(otlp.complete_trace(theirs, [REQUEST]), REQUEST)
    assert span.parent_id == "00f067aa0ba902b7"
    medium = trace_of(granted.media_id)
    assert span.links == ((medium, medium[16:]),)


def test_a_deletion_has_a_trace_of_its_own_linked_to_the_mediums(
    service: Service, otlp: Collector, redis_client: redis.Redis, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-gray.jpg").read_bytes()
    media_id = service.upload("cat.jpg", "image/jpeg", picture).media_id
    redis_client.xadd("drop_deleted", {"event": f'{{"media_ids": ["{media_id}"]}}'})

    def look() -> SeenSpan | None:
        medium = trace_of(media_id)
        deletions = [span for span in otlp.spans if span.name == "process media_delete_queue"]
        return next((span for span in deletions if (medium, medium[16:]) in span.links), None)

    deletion = eventually(look, "the span of the deletion")
    assert deletion.trace_id != trace_of(media_id)
    assert deletion.attributes["avion.task.outcome"] == "done"


def test_what_is_logged_of_a_task_names_its_trace(service: Service, data_directory: Path) -> None:
    picture = (data_directory / "jpeg-gray.jpg").read_bytes()
    media_id = service.upload("cat.jpg", "image/jpeg", picture).media_id
    line = eventually(
        lambda: next((each for each in json_lines(service.log()) if each.get("media_id") == media_id), None), "its log"
    )
    assert line["event"] == "task.ended"
    assert line["trace_id"] == trace_of(media_id)
    assert line["path"] == "service/processing"
    assert line["task_id"]


def test_a_visitors_traceparent_is_not_believed(service: Service, otlp: Collector) -> None:
    theirs = "5bf92f3577b34da6a3ce929d0e0e4736"
    path = "/media/01HF7YAT0005JWZKGXWQT731A6"
    assert service.get(path, traceparent=f"00-{theirs}-00f067aa0ba902b7-01").status_code == 404
    eventually(lambda: [span for span in otlp.spans if span.name == "GET /media/{id}"], "the request's span")
    assert not otlp.trace(theirs)


def test_every_span_is_one_of_the_documentation(service: Service, otlp: Collector, data_directory: Path) -> None:
    video = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    media_id = service.upload("clip.mp4", "video/mp4", video).media_id
    assert service.get(f"/media/{media_id}").status_code == 200
    url = f"{service.http_url}/media/{media_id}"
    assert httpx.request("BREW", url, trust_env=False, verify=False, timeout=30).status_code == 405
    with remote_server({"/a.mp4": video}) as remote:
        service.watch(service.cache(f"{remote.url}/a.mp4").media_id)
        assert not any("traceparent" in request for request in remote.requests)

    documented = documented_spans()
    assert len(documented) > 5

    def look() -> bool:
        return all(any(each.matches(span) for span in otlp.spans) for each in documented)

    eventually(look, "a span of each kind")
    eventually(lambda: [span for span in otlp.spans if span.name == "HTTP /media/{id}"], "the unknown method")
    for span in otlp.spans:
        kinds = [each for each in documented if each.matches(span)]
        assert any(set(span.attributes) <= {*each.attributes, "error.type"} for each in kinds), span

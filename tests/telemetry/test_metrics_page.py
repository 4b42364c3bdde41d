"""The page of metrics after a bit of everything: complete, as documented, of bounded size, and free of secrets."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import redis
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from avion_media.common.tasks import DROP_DELETED, PURGE_QUEUE, QUEUES
from avion_media.common.telemetry.instruments import INSTRUMENTS
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.remote_server import remote_server
from tests.telemetry.collector import Collector
from trio_telemetry import OTHER

MARKER = "grep4me"
"""Part of everything that a client may choose and nobody should find again."""
ALWAYS = {"le"}


@pytest.fixture(scope="module")
def service(
    redis_of_process: str,
    redis_client: redis.Redis,
    bucket: S3Bucket,
    otlp: Collector,
    data_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service that has seen uploads, failures, deletions, remote media, visitors and strangers."""
    settings = {
        "DELETE__DELAY": "0",
        "TASKS__MAX_ATTEMPTS": "1",
        "REMOTE__ALLOW_NETWORKS": "127.0.0.1/32",
        "LOG__LEVEL": "debug",
    }
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    with ExitStack() as stack:
        remote = stack.enter_context(remote_server({f"/{MARKER}.jpg": picture}))
        settings["CDN__PURGE_URLS"] = f"{remote.url}/purge"
        endpoints = tmp_path_factory.mktemp("webhooks") / "endpoints.json"
        secret = f"whsec_{base64.b64encode(bytes(24)).decode()}"
        endpoint = {"name": "posts", "url": f"{remote.url}/{MARKER}", "secrets": [secret], "events": ["media.ready"]}
        endpoints.write_text(json.dumps([endpoint | {"insecure": True, "internal": True}]))
        remote.status[f"/{MARKER}"] = 410
        settings["WEBHOOKS__ENDPOINTS_FILE"] = str(endpoints)
        environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
        environment |= {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{otlp.url}/v1/metrics"}
        environment |= {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{otlp.url}/v1/traces"}
        environment |= {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}
        service = stack.enter_context(running(environment))
        kept = service.upload(f"{MARKER}.jpg", "image/jpeg", picture).media_id
        dropped = service.upload(f"{MARKER}.jpg", "image/jpeg", picture).media_id
        assert service.upload("clip.mp4", "video/mp4", b"no video at all").state == wire.MediaStatus.FAILED
        service.watch(service.cache(f"{remote.url}/{MARKER}.jpg").media_id)
        service.watch(service.cache(f"http://127.0.0.2/{MARKER}?token={MARKER}").media_id)
        redis_client.xadd("drop_deleted", {"event": f'{{"media_ids": ["{dropped}", "{MARKER}"]}}'})
        eventually(lambda: service.get(f"/media/{dropped}").status_code == 410, "the deletion")
        assert service.get(f"/thumbnail/small/{kept}").status_code == 200
        service.call("BlockMedia", wire.BlockMediaRequest(media_id=kept), wire.BlockMediaResponse)
        _misbehave(service)
        yield service


def _misbehave(service: Service) -> None:
    """What strangers do."""
    for path in (f"/{MARKER}", f"/media/{MARKER}", f"/thumbnail/{MARKER}/{MARKER}"):
        assert service.get(path).status_code == 404
    address = urlsplit(service.http_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.request(MARKER.upper(), "/media/x")
    assert connection.getresponse().status == 405
    connection.close()
    with grpc.insecure_channel(service.grpc_address) as channel:
        for method in (f"/avion.MediaService/{MARKER}", f"/{MARKER}/{MARKER}"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(method)(b"", timeout=10)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/avion.MediaService/GetMediaStatus")(
                wire.GetMediaStatusRequest(media_id=MARKER).SerializeToString(), timeout=10
            )


def page_of(service: Service) -> str:
    return service.metrics()


def families(page: str) -> dict[str, Metric]:
    """By name, as Prometheus has them."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(page)
    }


@pytest.fixture(scope="module")
def page(service: Service) -> str:
    """The page, once everything has been measured; the first pass of the reconciliation is the last to come."""

    def look() -> str | None:
        found = page_of(service)
        measured = families(found)
        return found if all(each.prometheus_name in measured for each in INSTRUMENTS) else None

    eventually(look, "all metrics", 40)
    return page_of(service)


def test_every_metric_of_the_documentation_is_there(page: str) -> None:
    found = families(page)
    kinds = {"counter": "counter", "total": "counter", "histogram": "histogram", "gauge": "gauge", "updown": "gauge"}
    for instrument in INSTRUMENTS:
        family = found.pop(instrument.prometheus_name)
        assert family.type == kinds[instrument.kind]
        assert family.documentation == instrument.description
        assert family.samples
    assert set(found) == {"target_info"}


def test_labels_are_the_documented_ones_with_values_that_are_foreseen(page: str) -> None:
    found = families(page)
    for instrument in INSTRUMENTS:
        allowed = {each.name.replace(".", "_"): each.values for each in instrument.attributes}
        for sample in found[instrument.prometheus_name].samples:
            must = {name for name, values in allowed.items() if "" not in values}
            assert must <= set(sample.labels) - ALWAYS <= set(allowed), sample
            for name in set(sample.labels) - ALWAYS:
                assert not allowed[name] or sample.labels[name] in (*allowed[name], OTHER), sample


def test_openmetrics_has_the_same_series_and_traces_that_were_exported(service: Service, otlp: Collector) -> None:
    def series() -> set[tuple[object, ...]]:
        plain = families(page_of(service)).values()
        return {(each.name, *each.labels.items()) for family in plain for each in family.samples}

    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"
    before = series()  # the service goes on: series only come
    response = httpx.get(
        f"{service.admin_url}/metrics", headers={"accept": accept}, trust_env=False, verify=False, timeout=30
    )
    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    samples = [each for family in parse_openmetrics(response.text) for each in family.samples]
    assert before <= {(each.name, *each.labels.items()) for each in samples} <= series()
    exemplars = {each.name: each.exemplar for each in samples if each.exemplar}
    assert {name.removesuffix("_bucket") for name in exemplars} == {
        each.prometheus_name for each in INSTRUMENTS if each.exemplars
    }
    named = {(each.labels["trace_id"], each.labels["span_id"]) for each in exemplars.values()}
    eventually(lambda: named <= {(span.trace_id, span.span_id) for span in otlp.spans}, "their spans", 20)


def test_queues_and_the_stream_of_deletions_have_their_names(page: str) -> None:
    found = families(page)
    for name in ("avion_queue_lag", "avion_queue_oldest_age_seconds"):
        assert {each.labels["messaging_destination_name"] for each in found[name].samples} == {*QUEUES, "drop_deleted"}


def test_a_queue_is_shown_as_paused_until_it_is_resumed(service: Service) -> None:
    def paused() -> dict[str, float]:
        samples = families(page_of(service))["avion_queue_paused"].samples
        return {each.labels["messaging_destination_name"]: each.value for each in samples}

    def steer(action: str) -> None:
        steered = httpx.post(
            f"{service.admin_url}/queues/{PURGE_QUEUE}/{action}", trust_env=False, verify=False, timeout=30
        )
        assert steered.status_code == 200, steered.text

    none = dict.fromkeys((*QUEUES, DROP_DELETED), 0.0)
    assert paused() == none
    steer("pause")
    eventually(lambda: paused() == none | {PURGE_QUEUE: 1.0}, "the paused queue, and no other")
    steer("resume")
    eventually(lambda: paused() == none, "the end of the pause")


def test_nothing_that_a_client_chose_is_in_the_metrics_or_the_log(service: Service, page: str) -> None:
    assert MARKER not in page.lower()
    log = service.log()
    assert "task.ended" in log  # it is the log
    # What names a remote file is told to operators, by its host alone.
    assert [line for line in log.splitlines() if MARKER in line.lower()] == []
    assert "X-Amz-Signature" not in log
    assert service.environment["AWS_SECRET_ACCESS_KEY"] not in log


def test_what_strangers_do_is_counted_under_one_name(page: str) -> None:
    found = families(page)

    def count(metric: str, **labels: str) -> float:
        samples = [each for each in found[metric].samples if each.name.endswith("_count")]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    assert count("rpc_server_call_duration_seconds", rpc_method=OTHER) == 2
    assert count("http_server_request_duration_seconds", http_route=OTHER) == 1
    assert count("http_server_request_duration_seconds", http_request_method=OTHER) == 1


def test_promtool_has_nothing_to_say(page: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: ops/bootstrap test"
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_same_metrics_go_to_a_collector(otlp: Collector, page: str) -> None:
    names = {each.name for each in INSTRUMENTS}
    eventually(lambda: names <= otlp.metrics, "all metrics by OTLP", 20)
    assert otlp.metrics == names

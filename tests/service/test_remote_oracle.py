"""A stranger asks the origin about URLs of remote files. Of those that were never public here he learns nothing."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.remote_ids import remote_id_for
from tests.service.harness import Service, eventually
from tests.service.published import events_of
from tests.service.remote_server import RemoteServer, remote_server
from tests.service.test_private_media import picture

QUESTIONS = 10_000
_OF_EACH = 8  # URLs of each kind
_MOST_SIGMAS = 6.0  # of the rank sum: chance alone reaches it once in 500 million tests
_SEED = 20261207


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"REMOTE__ALLOW_NETWORKS": "127.0.0.0/8", "DELETE__DELAY": "1s", "MODERATION__RELOAD": "1h"}


@pytest.fixture(scope="module")
def remote(data_directory: Path) -> Iterator[RemoteServer]:
    good = (data_directory / "jpeg-gray.jpg").read_bytes()
    files = {f"/{kind}{number}.jpg": good for kind in ("public", "gone") for number in range(_OF_EACH)}
    files |= {f"/{kind}{number}.jpg": b"no picture" for kind in ("failed", "blocked") for number in range(_OF_EACH)}
    files |= {f"/listed{number}.jpg": picture(16) for number in range(_OF_EACH)}
    with remote_server(files) as remote:
        yield remote


def state_of(service: Service, url: str) -> tuple[int, str]:
    status = service.watch(service.cache(url).media_id)[-1]
    return status.state, status.reason


def delete(service: Service, *ids: str) -> None:
    service.call("DeleteMedia", wire.DeleteMediaRequest(media_ids=ids), wire.DeleteMediaResponse)


@pytest.fixture(scope="module")
def urls(
    service: Service, remote: RemoteServer, redis_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """URLs of each kind that was never public, by kind. All of them were handled in the way of their kind."""
    known = {
        kind: [f"{remote.url}/{kind}{number}.jpg" for number in range(_OF_EACH)]
        for kind in ("never", "failed", "listed", "deleted", "blocked")
    }
    known["host"] = [f"http://127.0.0.9:{7000 + number}/a.jpg" for number in range(_OF_EACH)]
    for url in (*known["failed"], *known["blocked"]):
        assert state_of(service, url) == (wire.MediaStatus.FAILED, "unsupported_type")
    hashes = [hashlib.sha256(remote.files[url.removeprefix(remote.url)]).hexdigest() for url in known["listed"]]
    block_list = tmp_path_factory.mktemp("lists") / "list.csv"
    block_list.write_text("".join(f"sha256,{each},test\n" for each in hashes))
    assert service.run_cli("blocklist", "import", str(block_list)).returncode == 0
    for url in known["listed"]:
        assert state_of(service, url) == (wire.MediaStatus.FAILED, "blocked")
    service.call("BlockHost", wire.BlockHostRequest(host="127.0.0.9"), wire.BlockHostResponse)
    for url in known["host"]:
        redis_client.xadd("media_cache_queue", {"task_id": url, "remote_url": url})
    for url in known["host"]:
        eventually(lambda url=url: events_of(redis_client, remote_id_for(url).text), "the task fails")  # type: ignore[misc]
    for url in known["blocked"]:
        request = wire.BlockMediaRequest(media_id=remote_id_for(url).text)
        service.call("BlockMedia", request, wire.BlockMediaResponse)
    delete(service, *(remote_id_for(url).text for url in known["deleted"]))
    for url in known["deleted"]:
        eventually(lambda url=url: events_of(redis_client, remote_id_for(url).text), "the removal")  # type: ignore[misc]
    return known


def paths_of(url: str) -> tuple[str, ...]:
    media_id = remote_id_for(url).text
    return f"/media/{media_id}", f"/media/{media_id}/credentials", f"/thumbnail/small/{media_id}"


def test_the_plain_hash_of_a_url_names_nothing(service: Service, remote: RemoteServer) -> None:
    url = f"{remote.url}/public0.jpg"
    assert state_of(service, url) == (wire.MediaStatus.READY, "")
    plain = hashlib.sha256(url.encode()).hexdigest()
    assert service.get(f"/media/{plain}").status_code == 404
    assert service.cache(url).media_id == remote_id_for(url).text != plain


def test_each_kind_costs_the_same_requests(service: Service, urls: dict[str, list[str]]) -> None:
    """So the time of an answer cannot depend on the kind: the store gets the same requests, and finds nothing."""
    costs = {}
    with httpx.Client(base_url=service.http_url, trust_env=False, verify=False) as client:
        for kind, known in urls.items():
            before = service.store_calls()
            for path in (path for url in known for path in paths_of(url)):
                assert client.get(path).status_code == 404
                assert client.head(path).status_code == 404
            after = service.store_calls()
            of_origin = ("GetObject", "HeadObject")
            costs[kind] = {name: after[name] - before[name] for name in of_origin}
    requests = _OF_EACH * 3
    # The object of a GET, that of a HEAD, and a note for each.
    assert costs == {kind: {"GetObject": requests, "HeadObject": 3 * requests} for kind in urls}


def test_ten_thousand_questions_have_one_answer(service: Service, urls: dict[str, list[str]]) -> None:
    kinds = list(urls)
    chance = random.Random(_SEED)
    answers: list[set[object]] = [set(), set(), set()]  # of each kind of path
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with httpx.Client(base_url=service.http_url, trust_env=False, verify=False) as client:
        for _ in range(QUESTIONS):
            kind = chance.choice(kinds)
            place = chance.randrange(len(answers))
            path = paths_of(chance.choice(urls[kind]))[place]
            began = time.perf_counter()
            response = client.get(path)
            seconds[kind].append(time.perf_counter() - began)
            headers = [(name, text) for name, text in response.headers.multi_items() if name != "date"]
            answers[place].add((response.status_code, tuple(headers), response.content))
    assert [len(each) for each in answers] == [1, 1, 1]
    assert response.status_code == 404
    sigmas = {kind: rank_difference(seconds["never"], seconds[kind]) for kind in kinds if kind != "never"}
    assert all(abs(each) < _MOST_SIGMAS for each in sigmas.values()), sigmas


def rank_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the statistic of the rank test of Mann and Whitney, in its standard deviations."""
    in_order = sorted([(each, 0) for each in first] + [(each, 1) for each in second])
    ranks = sum(rank for rank, (_, which) in enumerate(in_order, 1) if which == 0)
    n, m = len(first), len(second)
    expected = n * (n + m + 1) / 2
    return (ranks - expected) / math.sqrt(n * m * (n + m + 1) / 12)


def test_what_was_public_stays_admitted(
    service: Service, remote: RemoteServer, bucket: S3Bucket, redis_client: Any
) -> None:
    """Also on another replica, and if Redis is lost: the bucket decides."""
    blocked, deleted = f"{remote.url}/public1.jpg", f"{remote.url}/gone1.jpg"
    for url in (blocked, deleted):
        assert state_of(service, url) == (wire.MediaStatus.READY, "")
    request = wire.BlockMediaRequest(media_id=remote_id_for(blocked).text)
    service.call("BlockMedia", request, wire.BlockMediaResponse)
    delete(service, remote_id_for(deleted).text)
    eventually(lambda: len(events_of(redis_client, remote_id_for(deleted).text)) == 2, "the removal")

    def is_admitted() -> bool:
        found = {service.get(path).status_code for path in paths_of(blocked)}
        return found == {451} and {service.get(path).status_code for path in paths_of(deleted)} == {410}

    eventually(is_admitted, "both to be admitted")
    redis_client.flushall()
    eventually(is_admitted, "both to be admitted after the loss of Redis")
    unblock = wire.UnblockMediaRequest(media_id=remote_id_for(blocked).text)
    service.call("UnblockMedia", unblock, wire.UnblockMediaResponse)
    assert not bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="moderation/shown/").get("Contents")
    assert service.get(paths_of(blocked)[0]).status_code in (200, 404)

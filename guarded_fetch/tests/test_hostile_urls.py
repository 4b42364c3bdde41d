"""Hostile URLs end as invalid or refused, and nobody inside ever hears a knock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio

from guarded_fetch import AddressGuard, InvalidUrl, parse_remote_url
from guarded_fetch.errors import FetchCode, FetchRejected

from .strangers import Names, fetcher, says, stranger
from .urls import HOSTILE, NAMES

ROOT = Path(__file__).parents[len(__package__.split("."))]
REFUSED = {"invalid", "remote_refused"}


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE)
    assert len(HOSTILE) >= 90


async def test_no_canary_on_the_loopback_hears_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine as it is, with proxies set that would be canaries too."""
    reached = []
    with trio.fail_after(60):
        async with stranger(says(b"")) as four, stranger(says(b""), host="::1") as six:
            for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(variable, f"http://{four.authority}")
            one = fetcher(guard=AddressGuard(), resolve=Names(NAMES))
            for template in HOSTILE:
                for port in (f":{four.port}", f":{six.port}", ""):
                    with tempfile.TemporaryFile(buffering=0) as file:
                        try:
                            await one.fetch(parse_remote_url(template.replace("{port}", port)), file.fileno())
                        except InvalidUrl:
                            continue
                        except FetchRejected as rejection:
                            if rejection.code is FetchCode.REMOTE_REFUSED:
                                continue
                            raise
                        reached.append(template)
    assert reached == []
    assert (four.connections, six.connections) == (0, 0)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `in_namespace` found. Needs to make a network namespace: as root, with user namespaces, or with sudo."""
    program = [sys.executable, "-m", f"{__package__}.in_namespace"]
    failures = []
    for entrance in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"], ["sudo", "-n", "unshare", "--net"]):
        probe = subprocess.run(
            [*entrance, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, timeout=20, check=False
        )
        if probe.returncode:
            failures.append(f"{' '.join(entrance)}: {probe.stderr.strip()}")
            continue
        environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:80", "ALL_PROXY": "http://[::1]:80"}
        done = subprocess.run(
            [*entrance, *program],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))
    pytest.fail(f"cannot make a network namespace here: {failures}")


def test_the_canaries_in_the_namespace_can_hear(report: dict[str, Any]) -> None:
    assert report["control"] >= 40
    assert report["public"] == "fetched"  # the same fetcher does reach a public address, with the default guard


def test_hostile_urls_open_no_connection_at_all(report: dict[str, Any]) -> None:
    direct = report["direct"]
    assert {url: outcome for url, outcome in direct["outcomes"].items() if outcome not in REFUSED} == {}
    assert direct["opened"] == 0


def test_redirects_to_hostile_urls_open_no_connection_either(report: dict[str, Any]) -> None:
    redirected = report["redirected"]
    # remote_status: what is no URL may be a relative one, on the accomplice itself, or have broken its headers
    strange = {url: outcome for url, outcome in redirected["outcomes"].items() if outcome not in REFUSED}
    assert set(strange.values()) <= {"remote_status"}, strange
    assert len(strange) < 40, strange
    assert redirected["opened_elsewhere"] == 0


def test_rebinding_is_refused(report: dict[str, Any]) -> None:
    assert report["rebinding"] == "remote_refused"


def test_no_canary_in_the_namespace_heard_anything(report: dict[str, Any]) -> None:
    assert report["knocks"] == 0

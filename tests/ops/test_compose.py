"""The compose file of one host: valid by the Compose Specification, and true to the configuration."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from avion_media.app import build_tree
from avion_media.common.credentials import read_tokens
from avion_media.common.settings import PREFIX, parse_duration, parse_size
from avion_media.config import Config, load
from avion_media.process.runtime import Runtime
from avion_media.service import drain_budget
from tests.ops.manifests import ROOT, image_settings
from tests.services.process import require

COMPOSE = ROOT / "ops/compose"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `prepare` leaves it."""
    folder = tmp_path_factory.mktemp("compose")
    addresses = ["https://media.example.org", "https://upload.example.org"]
    subprocess.run(
        [COMPOSE / "prepare", *addresses], env=os.environ | {"PREPARE_IN": str(folder)}, check=True, timeout=30
    )
    return folder


@pytest.fixture(scope="module")
def compose(prepared: Path) -> dict[str, Any]:
    """The compose file with merge keys and variables resolved."""
    variables = dict(line.split("=", 1) for line in (prepared / ".env").read_text().splitlines())
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: variables[match[1]], (COMPOSE / "compose.yaml").read_text())
    resolved = yaml.safe_load(text)
    assert isinstance(resolved, dict)
    return resolved


def _settings(service: dict[str, Any]) -> Config:
    given = {name: value for name, value in service["environment"].items() if name.startswith(PREFIX)}
    return load(image_settings() | given)


def test_it_is_valid_compose(compose: dict[str, Any]) -> None:
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose))


def test_the_validation_finds_a_mistake(compose: dict[str, Any]) -> None:
    wrong = compose | {"services": compose["services"] | {"media": compose["services"]["media"] | {"prots": []}}}
    with pytest.raises(ValueError, match="prots"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(wrong))


def _front_end(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Docker's own front end, which needs no daemon to read a file."""
    command = [require("docker-compose", "docker-compose"), "--file", COMPOSE / "compose.yaml", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_front_end_resolves_it(prepared: Path, compose: dict[str, Any]) -> None:
    done = _front_end("--env-file", prepared / ".env", "--profile", "watched", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    resolved = json.loads(done.stdout)
    assert resolved["services"].keys() == compose["services"].keys()
    assert resolved["services"]["media"]["environment"] == compose["services"]["media"]["environment"]


def test_the_front_end_says_what_to_do_first(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = _front_end("--env-file", tmp_path / "empty", "config")
    assert done.returncode != 0
    assert "run ops/compose/prepare" in done.stderr


def test_the_settings_are_settings_of_the_service(compose: dict[str, Any]) -> None:
    for name in ("media", "init"):
        config = _settings(compose["services"][name])
        assert config.grpc.authenticates
        assert config.admin.authenticates
        assert config.sandbox.require


def test_a_drain_fits_into_the_stop_grace_period(compose: dict[str, Any], tmp_path: Path) -> None:
    media = compose["services"]["media"]
    endpoints = tmp_path / "endpoints.json"  # with one more queue than the compose file has
    endpoints.write_text("[]")
    webhooks = {f"{PREFIX}WEBHOOKS__ENDPOINTS_FILE": str(endpoints)}
    config = _settings({"environment": media["environment"] | webhooks})
    assert config.cdn.purges
    assert drain_budget(config, build_tree(Runtime(config), config).root).fits
    assert parse_duration(media["stop_grace_period"]) == config.drain.termination_grace_period


def test_the_memory_limit_holds_the_sandbox_the_spool_and_the_service(compose: dict[str, Any]) -> None:
    media = compose["services"]["media"]
    config = _settings(media)
    (spool,) = media["tmpfs"]
    spool_bytes = int(parse_size(re.search(r"size=(\w+)", spool)[1] + "ib"))  # type: ignore[index, call-overload]
    limit = int(parse_size(media["mem_limit"].replace("m", "MiB")))  # type: ignore[call-overload]
    assert limit >= config.sandbox.budget + spool_bytes + (512 << 20)
    assert spool_bytes >= 2 * config.tasks.slots * config.upload.max_video_bytes


def test_every_service_is_confined_and_of_a_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]


def test_only_visitors_and_uploads_come_in_from_outside(compose: dict[str, Any]) -> None:
    ports = {port for service in compose["services"].values() for port in service.get("ports", [])}
    assert {port for port in ports if not port.startswith("127.0.0.1:")} == {"80:80", "9000:9000"}


def test_the_cdn_outlives_the_service_and_finds_it_at_its_address(compose: dict[str, Any]) -> None:
    media, cdn = compose["services"]["media"], compose["services"]["cdn"]
    assert "network_mode" not in cdn, "it would be gone with every restart of the other"
    assert "depends_on" not in cdn, "it would stop before the other, and wait for it"
    origin = (COMPOSE / "origin.vcl").read_text()
    (backend,) = re.findall(r'\.host = "([^"]+)";', origin)
    assert re.findall(r'^    "([^"]+)";', origin, re.MULTILINE) == [backend], "nobody else may purge"
    assert backend == media["networks"]["edge"]["ipv4_address"]
    (network,) = (ipaddress.ip_network(each["subnet"]) for each in compose["networks"]["edge"]["ipam"]["config"])
    gateway, *free = network.hosts()
    addresses = [ipaddress.ip_address(each["networks"]["edge"]["ipv4_address"]) for each in (media, cdn)]
    assert len(set(addresses)) == 2
    assert set(addresses) <= set(free) - {gateway}
    assert _settings(media).cdn.purge_urls == ("http://cdn",)
    assert re.findall(r'\.port = "(\d+)";', origin) == [str(_settings(media).http.bind.port)]
    (include,) = re.findall(r'include "\./(.+)";', (ROOT / "ops/cdn/varnish.vcl").read_text())
    mounts = {Path(source).name: target for source, target in (each.split(":")[:2] for each in cdn["volumes"])}
    assert mounts["origin.vcl"] == str(Path(mounts["varnish.vcl"]).parent / include)


def test_no_secret_is_in_the_file_and_what_is_made_is_not_committed(prepared: Path) -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    for line in (prepared / ".env").read_text().splitlines():
        name, _, value = line.partition("=")
        assert f"{name}:?" in text
        assert name in {"MEDIA_URL", "UPLOAD_URL", "AWS_ACCESS_KEY_ID"} or value not in text
    assert (COMPOSE / ".gitignore").read_text().split() == [".env", "access/"]
    assert (prepared / ".env").stat().st_mode & 0o077 == 0


def test_a_line_that_is_added_to_the_tokens_is_another_token(prepared: Path, tmp_path: Path) -> None:
    made = (prepared / "access/admin-tokens").read_text()
    (tmp_path / "tokens").write_text(f"{made}another-token-of-an-operator-of-this-host viewer Ada\n")
    assert list(read_tokens(str(tmp_path / "tokens"))) == [made.strip(), "another-token-of-an-operator-of-this-host"]


def test_preparing_again_changes_nothing_and_says_so(prepared: Path) -> None:
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    done = subprocess.run(
        [COMPOSE / "prepare", "http://other", "http://other"],
        env=os.environ | {"PREPARE_IN": str(prepared)},
        check=True,
        timeout=30,
        stdout=subprocess.PIPE,
    )
    assert b"change MEDIA_URL and UPLOAD_URL there" in done.stdout
    assert {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()} == before

"""Client connections are limited, so that open files are left for the rest of the process."""

from __future__ import annotations

import pytest

from avion_media import service
from avion_media.config import Config
from avion_media.process.runtime import ROLES
from avion_media.servers.files import files_needed
from avion_media.servers.settings import GrpcConfig, HttpConfig

CONFIG = Config(grpc=GrpcConfig(max_connections=500), http=HttpConfig(max_connections=1500))


def problems(monkeypatch: pytest.MonkeyPatch, roles: frozenset[str], files: int) -> list[str]:
    monkeypatch.setattr(service, "raise_file_limit", lambda: files)
    found = service.startup_problems(CONFIG, roles, service.planned_budget(CONFIG, roles))
    return [each for each in found if "open files" in each]


def test_a_service_that_may_run_out_of_files_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = files_needed(CONFIG, ROLES)
    assert problems(monkeypatch, frozenset(ROLES), needed) == []
    (problem,) = problems(monkeypatch, frozenset(ROLES), needed - 1)
    assert problem.startswith(f"{needed} open files can be needed, and {needed - 1} are allowed: ")


def test_a_port_that_does_not_run_needs_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, frozenset({"http"}), files_needed(CONFIG, ROLES) - 500) == []

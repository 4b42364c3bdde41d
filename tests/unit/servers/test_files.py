"""Client connections are limited, so that open files are left for the rest of the process."""

from __future__ import annotations

import math

import pytest

from avion_media.config import Config
from avion_media.process.runtime import ROLES
from avion_media.servers.files import files_needed, fit_to_files
from avion_media.servers.settings import GrpcConfig, HttpConfig

CONFIG = Config(grpc=GrpcConfig(max_connections=500), http=HttpConfig(max_connections=1500))


@pytest.mark.parametrize("files", [math.inf, files_needed(CONFIG)])
def test_enough_files_change_nothing(files: float) -> None:
    assert fit_to_files(CONFIG, ROLES, files) is CONFIG


@pytest.mark.parametrize("files", [files_needed(CONFIG) - 1, 1024])
def test_fewer_files_lower_the_limits_of_clients_in_proportion(files: int) -> None:
    fitted = fit_to_files(CONFIG, ROLES, files)
    assert files - 2 <= files_needed(fitted) <= files
    assert fitted.http.max_connections // fitted.grpc.max_connections == 3


def test_a_port_that_does_not_run_needs_no_files() -> None:
    assert fit_to_files(CONFIG, {"http"}, files_needed(CONFIG) - 500) is CONFIG


def test_each_port_keeps_one_connection() -> None:
    fitted = fit_to_files(CONFIG, ROLES, 64)
    assert (fitted.grpc.max_connections, fitted.http.max_connections) == (1, 1)

"""What `avion-media dev` prints for the commands of another terminal."""

from __future__ import annotations

import shlex

from avion_media.cli.dev import exports
from avion_media.common.settings import Bind
from avion_media.config import Config, load
from avion_media.servers.settings import GrpcConfig, HttpConfig


def test_the_commands_find_a_service_on_other_ports() -> None:
    config = Config(
        grpc=GrpcConfig(bind=Bind(host="127.0.0.1", port=41001)), http=HttpConfig(bind=Bind(host="::1", port=41002))
    )
    word, *settings = shlex.split(exports(config))
    assert word == "export"
    found = load(dict(setting.split("=", 1) for setting in settings))
    assert (found.grpc.bind, found.http.bind) == (config.grpc.bind, config.http.bind)
    assert found.redis == config.redis


def test_the_usual_ports_need_no_words() -> None:
    assert "BIND" not in exports(Config())

"""What the page about one host prints for a host without containers: its settings, and its unit."""

from __future__ import annotations

import re
from configparser import ConfigParser

from avion_media.config import load
from avion_media.config.dangers import dangers
from tests.ops.manifests import ROOT

SETTINGS, UNIT = re.findall(r"^```ini\n(.*?)^```$", (ROOT / "docs/how-to/deploy-one-host.md").read_text(), re.M | re.S)


def test_the_settings_are_settings_of_the_service() -> None:
    given = dict(line.split("=", 1) for line in SETTINGS.splitlines())
    config = load({name: value for name, value in given.items() if name.startswith("AVION_MEDIA_")})
    assert config.drain.termination_grace_period == 60
    assert not dangers(config)


def test_the_unit_gives_the_service_its_time_to_drain() -> None:
    parser = ConfigParser(delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT)
    service = parser["Service"]
    assert service["ExecStart"].split()[1:] == ["serve"]
    assert service["ExecStartPre"].split()[1:] == ["init"]
    assert service["EnvironmentFile"] == "/etc/avion-media/environment"
    assert int(service["TimeoutStopSec"]) >= 60

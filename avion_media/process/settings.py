"""Settings of one process, and all that its parts share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avion_media.common.settings import Duration, Section
from avion_media.items.settings import ItemSettings


class DrainConfig(Section):
    """Times of the phases of a shutdown."""

    settle: Duration = Field(
        5.0, description="Time to keep serving after SIGTERM while load balancers stop sending traffic"
    )
    grace: Duration = Field(25.0, description="Time for running calls and tasks to finish")
    termination_grace_period: Duration = Field(
        60.0, description="The pod's terminationGracePeriodSeconds; all phases together must be shorter"
    )


class ChaosConfig(Section):
    """Killing parts of the running service on purpose: `avion-media chaos`."""

    enabled: bool = Field(
        False, description="Whether the admin port accepts `POST /chaos/kill?path=…`; never in production"
    )


class LogConfig(Section):
    """Logs go to standard error."""

    format: Literal["json", "console"] = Field(
        "json", description="`json` or `console`; unset: `console` if standard error is a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`"
    )


class ProcessSettings(ItemSettings):
    """Those of the items, and of the process."""

    drain: DrainConfig = DrainConfig()
    chaos: ChaosConfig = ChaosConfig()
    log: LogConfig = LogConfig()

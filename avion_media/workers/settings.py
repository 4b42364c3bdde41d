"""Settings of the sweep, of the audit log and of webhooks."""

from __future__ import annotations

from pydantic import Field

from avion_media.common.settings import Duration, Section
from avion_media.process.settings import ProcessSettings


class SweepConfig(Section):
    """The sweep: `avion-media sweep`, and the `sweeper` role."""

    interval: Duration = Field(3600.0, gt=0, description="Pause between the end of one sweep and the start of the next")
    rate: float = Field(
        10.0,
        gt=0,
        le=10_000,
        description="Maximum requests to the object store per second; one request lists 1000 objects",
    )
    margin: Duration = Field(
        3600.0, description="Objects younger than this are left alone, because work on them may be in progress"
    )
    max_fraction: float = Field(
        0.2, ge=0, le=1, description="Largest share of listed objects that one sweep may delete without `--force`"
    )
    always_allowed: int = Field(100, ge=0, description="Number of objects that a sweep may always delete")


class AuditConfig(Section):
    """The audit log (docs/audit.md)."""

    keep: Duration = Field(
        400 * 86400.0, ge=86400, description="Age at which the sweep removes the audit records of a day"
    )


class WebhooksConfig(Section):
    """Events for other services over HTTP (docs/webhooks.md): the `webhooks` role."""

    endpoints_file: str = Field(
        "", description="JSON file with the endpoints; reloaded when it changes; empty: no webhooks"
    )
    max_waiting: int = Field(
        100_000, ge=100, description="Approximate number of events that wait for one endpoint; the oldest are dropped"
    )


class WorkerSettings(ProcessSettings):
    """Those of the process, of the sweep, the audit log and webhooks."""

    sweep: SweepConfig = SweepConfig()
    audit: AuditConfig = AuditConfig()
    webhooks: WebhooksConfig = WebhooksConfig()

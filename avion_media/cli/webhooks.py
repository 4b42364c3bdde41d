"""``avion-media webhooks test``: sends a test event to endpoints of webhooks, from this machine."""

from __future__ import annotations

import time
import uuid
from typing import Any

import click

from avion_media.backends.remote import Poster
from avion_media.cli.output import json_option, load_config, print_found
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import run_directly
from avion_media.common.clock import now_s
from avion_media.common.errors import Unavailable
from avion_media.common.settings import PREFIX
from avion_media.nodes.consumers import user_agent_of
from avion_media.nodes.credential_reload import open_endpoints
from avion_media.workers.endpoints import TEST_EVENT, Endpoint
from avion_media.workers.webhooks import post_event, posters_of


@click.group("webhooks")
def webhooks_command() -> None:
    """Test the endpoints of webhooks."""


@webhooks_command.command("test")
@click.argument("names", metavar="[ENDPOINT]...", nargs=-1)
@json_option
def test_command(names: tuple[str, ...], as_json: bool) -> None:
    """Send a signed event of the type webhook.test to each ENDPOINT, or to all of them. Fails unless each answers 2xx.

    The request is sent from this machine, which may reach other addresses than the workers.
    """
    config = load_config()
    if not config.webhooks.endpoints_file:
        raise UsageError(f"there are no endpoints: {PREFIX}WEBHOOKS__ENDPOINTS_FILE is empty")
    try:
        endpoints = open_endpoints(config.webhooks).value
    except (OSError, ValueError) as error:
        raise UsageError(f"{PREFIX}WEBHOOKS__ENDPOINTS_FILE: {error}") from None
    if unknown := [name for name in names if name not in endpoints]:
        raise UsageError(f"no such endpoint: {', '.join(unknown)} (there are: {', '.join(endpoints)})")
    wanted = [endpoints[name] for name in names] or list(endpoints.values())
    posters = posters_of(config.remote, user_agent_of(config))

    async def send() -> list[dict[str, Any]]:
        return [await _try(posters[each.internal], each) for each in wanted]

    answers = run_directly(send)
    print_found(
        answers,
        ["endpoint", "answer", "seconds"],
        [(each["endpoint"], each["answer"], f"{each['seconds']:.3f}") for each in answers],
        as_json=as_json,
    )
    if failed := [each["endpoint"] for each in answers if not each["delivered"]]:
        raise CommandFailed(f"not delivered: {', '.join(failed)}")


async def _try(poster: Poster, endpoint: Endpoint) -> dict[str, Any]:
    event = {"event_id": str(uuid.uuid4()), "type": TEST_EVENT}
    began = time.monotonic()
    try:
        status = await post_event(poster, endpoint, event, now_s())
        delivered, answer = status < 300, f"HTTP {status}"
    except Unavailable as error:
        delivered, answer = False, error.detail
    seconds = round(time.monotonic() - began, 3)
    return {"endpoint": endpoint.name, "delivered": delivered, "answer": answer, "seconds": seconds}

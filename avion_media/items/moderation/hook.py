"""``MODERATION__HOOK_URL``: a service of the operator that decides about each media item before publication.

It receives a POST with hashes and facts as JSON, never the file itself. With ``HOOK_SENDS_FILE`` it also receives the
thumbnail that was hashed, in base64; of private media only with ``HOOK_PRIVATE_PICTURES``. It responds
``{"action": "publish"|"hold"|"refuse", "label": "…"}``. While it does not respond, or responds with anything else, a
setting decides.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import trio

from avion_media.backends.redis import Redis
from avion_media.backends.remote import HostLimiter, HostLimits
from avion_media.common.errors import Deferred, Dependency, Unavailable
from avion_media.common.responses import read_body
from avion_media.common.telemetry import instruments
from avion_media.items.settings import ModerationConfig
from guarded_fetch import parse_remote_url
from trio_telemetry import NO_TELEMETRY, Telemetry, get_logger

_MAX_ANSWER_BYTES = 64 << 10
# After five failures in a row, no replica calls the hook for 30 s; then one request is tried.
_LIMITS = HostLimits(slots=1000, breaker_failures=5, first_pause_s=30.0, longest_pause_s=30.0)
_MAX_LABEL = 200
_ACTIONS = frozenset({"publish", "hold", "refuse"})
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Opinion:
    """The decision of the hook, or of the setting for a hook that is unavailable."""

    action: str
    label: str = ""


class Hook:
    """Sends requests, each with a deadline. All replicas pause a failing hook, as they do with remote servers."""

    def __init__(self, config: ModerationConfig, redis: Redis, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._config = config
        self._url = parse_remote_url(config.hook_url) if config.hook_url else None
        self._limiter = HostLimiter(lambda: redis, _LIMITS)
        self._telemetry = telemetry

    @property
    def enabled(self) -> bool:
        """Whether a hook is configured."""
        return self._url is not None

    async def ask(self, facts: Mapping[str, Any], picture: bytes | None = None) -> Opinion:
        """Return the hook's decision, or the configured one. Raises `Unavailable` while Redis is unavailable."""
        document = dict(facts)
        sends_picture = self._config.hook_sends_file and (self._config.hook_private_pictures or not facts["private"])
        if sends_picture and picture is not None:
            document["picture"] = base64.b64encode(picture).decode()
        try:
            opinion = await self._ask(document)
            outcome = opinion.action
        except Deferred:
            opinion, outcome = self._fallback(), "paused"
        except Unavailable as error:
            if error.dependency is not Dependency.REMOTE:
                raise
            _log.warning("hook.failed", problem=error.detail)
            opinion, outcome = self._fallback(), "failed"
        self._telemetry.count(instruments.HOOK_REQUESTS, outcome=outcome)
        return opinion

    def _fallback(self) -> Opinion:
        return Opinion(self._config.hook_unavailable, "the hook is unavailable")

    async def _ask(self, document: Mapping[str, Any]) -> Opinion:
        if self._url is None:
            raise AssertionError("there is no hook to ask")
        async with self._limiter.admitted(self._url, trio.current_time() + self._config.hook_timeout):
            try:
                with trio.fail_after(self._config.hook_timeout):
                    return _read(await self._post(document))
            except (httpx.HTTPError, trio.TooSlowError, ValueError) as error:
                raise Unavailable(Dependency.REMOTE, repr(error)[:300]) from None

    async def _post(self, document: Mapping[str, Any]) -> bytes:
        token = self._config.hook_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=self._config.hook_timeout) as http,
            http.stream("POST", self._config.hook_url, json=document, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"it answered {response.status_code}")
            return await read_body(response, _MAX_ANSWER_BYTES)


def _read(answer: bytes) -> Opinion:
    document = json.loads(answer)
    if not isinstance(document, dict) or document.get("action") not in _ACTIONS:
        raise ValueError(f"its answer names no action: {answer[:100]!r}")
    return Opinion(document["action"], str(document.get("label", ""))[:_MAX_LABEL])

"""``MODERATION__HOOK_URL``: a service of the operator that is asked about each medium before it becomes public.

It gets hashes and facts as JSON by POST, never the file, unless ``HOOK_SENDS_FILE`` (then the picture that was hashed
goes along, in base64). It answers ``{"action": "publish"|"hold"|"refuse", "label": "…"}``. What counts while it
does not answer, or answers anything else, is configured.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import trio

from avion_media.config import ModerationConfig
from avion_media.telemetry import get_logger

_MAX_ANSWER_BYTES = 64 << 10
_FAILURES = 5  # in a row, then the hook is not asked for a while
_PAUSE_S = 30.0
_MAX_LABEL = 200
_ACTIONS = frozenset({"publish", "hold", "refuse"})
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the hook wants done. ``asked``: it is its answer, not the configured one."""

    action: str
    label: str = ""
    asked: bool = True


class Hook:
    """Asks, within its deadline. The breaker is this process' own."""

    def __init__(self, config: ModerationConfig) -> None:
        self._config = config
        self._failures = 0
        self._asked_again_at = 0.0

    @property
    def enabled(self) -> bool:
        """Whether there is one."""
        return bool(self._config.hook_url)

    @property
    def is_open(self) -> bool:
        """Whether the breaker keeps it from being asked."""
        return self._failures >= _FAILURES and trio.current_time() < self._asked_again_at

    async def ask(self, facts: Mapping[str, Any], picture: bytes | None = None) -> Opinion:
        """Return its opinion, or the configured one. Never fails."""
        fallback = Opinion(self._config.hook_unavailable, "the hook is unavailable", asked=False)
        if self.is_open:
            return fallback
        document = dict(facts)
        if self._config.hook_sends_file and picture is not None:
            document["picture"] = base64.b64encode(picture).decode()
        try:
            with trio.fail_after(self._config.hook_timeout):
                opinion = _read(await self._post(document))
        except (httpx.HTTPError, trio.TooSlowError, ValueError) as error:
            self._failures += 1
            self._asked_again_at = trio.current_time() + _PAUSE_S
            _log.warning("hook.failed", problem=repr(error)[:300], failures=self._failures)
            return fallback
        self._failures = 0
        return opinion

    async def _post(self, document: Mapping[str, Any]) -> bytes:
        token = self._config.hook_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=self._config.hook_timeout) as http,
            http.stream("POST", self._config.hook_url, json=document, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"it answered {response.status_code}")
            answer = b""
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError("its answer is too long")
            return answer


def _read(answer: bytes) -> Opinion:
    document = json.loads(answer)
    if not isinstance(document, dict) or document.get("action") not in _ACTIONS:
        raise ValueError(f"its answer names no action: {answer[:100]!r}")
    return Opinion(document["action"], str(document.get("label", ""))[:_MAX_LABEL])

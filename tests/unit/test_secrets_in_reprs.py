"""No object of the service shows a secret in its repr, which logs, tracebacks and error messages print."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from avion_media.backends.settings import S3Config
from avion_media.backends.store.clients import Clients
from avion_media.common.credentials import read_tokens
from avion_media.config import load
from avion_media.items.private.token_keys import TokenKey, TokenKeys
from avion_media.process.runtime import Runtime
from avion_media.workers.endpoints import Endpoint
from trio_redis import read_redis_url
from trio_s3 import Presigner, SigningCredentials

PLANTED = "planted0secret0"
_OWN = ("avion_media", "trio_", "guarded_fetch", "supervisors")
_ENVIRONMENT = {
    "REDIS__URL": f"redis://user:{PLANTED}redis@redis.example/0",
    "STATUS__REDIS_URL": f"redis+sentinel://user:{PLANTED}status@redis.example/m?sentinel_password={PLANTED}sentinel",
    "S3__BUCKET": "media",
    "S3__ENDPOINT_URL": f"http://user:{PLANTED}store@store.example",
    "CDN__PURGE": "template",
    "CDN__PUBLIC_URLS": "https://cdn.example",
    "CDN__PURGE_URLS": f"https://cdn.example/purge?key={PLANTED}purge&url={{url}}",
    "ADMIN__TOKEN": f"{PLANTED}of-an-operator-of-media",
    "ADMIN__PROMETHEUS_URL": f"https://user:{PLANTED}prometheus@prometheus.example",
    "CLIENT__TOKEN": f"{PLANTED}client",
    "MODERATION__HOOK_URL": "https://hook.example",
    "MODERATION__HOOK_TOKEN": f"{PLANTED}hook-of-moderators",
}


def _parts(found: object) -> Iterator[object]:
    """What an object holds."""
    if isinstance(found, Mapping):
        yield from found.values()
        yield from found.keys()
    elif isinstance(found, list | tuple | set | frozenset):
        yield from found
    elif type(found).__module__.startswith(_OWN):
        yield from getattr(found, "__dict__", {}).values()
        slots = [name for kind in type(found).__mro__ for name in getattr(kind, "__slots__", ())]
        yield from (getattr(found, name) for name in slots if hasattr(found, name))


def reachable(*roots: object) -> list[object]:
    """Return each object of the service that others hold, from these on."""
    seen: dict[int, object] = {}
    left = [*roots]
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, str | bytes | int | float | type | ModuleType):
            continue
        seen[id(found)] = found
        left += _parts(found)
    return [each for each in seen.values() if type(each).__module__.startswith(_OWN)]


def shown(*roots: object) -> list[str]:
    """Return the types whose repr shows a planted secret."""
    return sorted({type(each).__qualname__ for each in reachable(*roots) if PLANTED in repr(each)})


async def test_no_object_of_a_process_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load({f"AVION_MEDIA_{name}": value for name, value in _ENVIRONMENT.items()})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{PLANTED}id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{PLANTED}key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{PLANTED}token")
    clients = Clients(S3Config(bucket="media", endpoint_url="http://store.example"))
    await clients.refresh()
    runtime = Runtime(config)
    assert len(reachable(runtime, clients)) > 50
    assert shown(runtime, clients) == []
    clients.close()


def test_no_credentials_show_their_secret(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{PLANTED}of-another-operator-of-media operator eve\n")
    key = bytes.fromhex("ab" * 32)
    secret = TokenKey(1, 0, key)
    credentials = SigningCredentials(f"{PLANTED}id", f"{PLANTED}key", f"{PLANTED}token")
    presigner = Presigner("http://store.example", "media", "us-east-1", credentials)
    put = presigner.put("a", content_type="a/b", size_bytes=1, expires_s=60, now=datetime.now(UTC))
    redis = read_redis_url(_ENVIRONMENT["STATUS__REDIS_URL"])
    signing = f"whsec_{base64.b64encode(bytes(64)).decode()}"
    url = f"https://hook.example/{PLANTED}"
    endpoint = Endpoint(name="posts", url=url, secrets=(signing,), events=("media.ready",))
    assert signing not in repr(endpoint)
    assert shown(endpoint, credentials, presigner, redis, *read_tokens(str(tmp_path / "tokens")).values()) == []
    signature = put.url.rpartition("=")[2]
    day = next(each for each in reachable(presigner) if type(each).__name__ == "_Day")
    assert signature not in repr(put)
    assert "key=" not in repr(day)
    assert repr(key) not in repr(TokenKeys((secret,)))
    assert key.hex() not in repr(TokenKeys((secret,)))

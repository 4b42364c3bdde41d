"""Signatures of webhooks are verified by the library of Standard Webhooks for Node.js; the one for Python is used by
the tests of the service."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from avion_media.common.clock import now_s
from avion_media.workers.endpoints import parse_endpoints

SECRETS = [f"whsec_{base64.b64encode(bytes(range(size))).decode()}" for size in (24, 64)]
OTHER = f"whsec_{base64.b64encode(bytes(32)).decode()}"
BODY = '{"type":"media.ready","data":{"blurhash":"LÖ"}}'


def test_each_secret_verifies_and_nothing_else_does(node_client: Path) -> None:
    entry = {"name": "a", "url": "https://a.example/", "secrets": SECRETS, "events": ["media.ready"]}
    endpoint = parse_endpoints(json.dumps([entry]))["a"]

    def sent(seconds_ago: int = 0) -> dict[str, str]:
        headers = endpoint.sign("0b6f3c0e", int(now_s()) - seconds_ago, BODY.encode())
        return {name.lower(): value for name, value in headers}

    assert len(sent()["webhook-signature"].split(" ")) == len(SECRETS)
    cases = [
        *((secret, sent(), BODY) for secret in SECRETS),
        (OTHER, sent(), BODY),
        (SECRETS[0], sent(), BODY.replace("ready", "failed")),
        (SECRETS[0], sent() | {"webhook-id": "another"}, BODY),
        (SECRETS[0], sent(seconds_ago=3600), BODY),
    ]
    command: list[str | Path] = ["node", node_client.parent / "webhooks.js"]
    ended = subprocess.run(command, input=json.dumps(cases).encode(), capture_output=True, check=True, timeout=60)
    assert json.loads(ended.stdout) == [True, True, False, False, False, False]

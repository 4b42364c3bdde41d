"""What a page does at a gateway, step by step."""

from __future__ import annotations

import json
from typing import Any

import httpx

FINAL = {"READY", "FAILED", "DELETED"}


def begin(gateway: httpx.Client, filename: str, content_type: str, size: int) -> Any:
    response = gateway.post("/uploads", json={"filename": filename, "type": content_type, "size": size})
    assert response.status_code == 200, response.text
    return response.json()


def states(gateway: httpx.Client, key: str) -> list[Any]:
    """All states until the final one."""
    found = []
    with gateway.stream("GET", f"/uploads/{key}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    assert [each["state"] in FINAL for each in found] == [False] * (len(found) - 1) + [True]
    return found


def put(signed: Any, body: bytes) -> int:
    return httpx.put(
        signed["url"], content=body, headers=signed["headers"], trust_env=False, verify=False, timeout=60
    ).status_code


def published(gateway: httpx.Client, filename: str, content_type: str, body: bytes) -> bytes:
    """Upload a file, and return what is served of it."""
    granted = begin(gateway, filename, content_type, len(body))
    key, upload = granted["key"], {"uploadId": granted.get("uploadId", "")}
    part_bytes = granted.get("partSize", len(body))
    for number, offset in enumerate(range(0, len(body), part_bytes), 1):
        in_parts = bool(upload["uploadId"])
        signed = gateway.get(f"/uploads/{key}/parts/{number}", params=upload).json() if in_parts else granted
        assert put(signed, body[offset : offset + part_bytes]) == 200
    completed = gateway.post(f"/uploads/{key}/complete", params=upload).json()
    assert states(gateway, key)[-1]["state"] == "READY"
    return httpx.get(completed["location"], trust_env=False, verify=False).content

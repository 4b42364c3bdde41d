"""Presigned uploads: what the store must accept, and everything else that it must refuse.

The PUTs go where clients send theirs: to the store's public address.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from avion_media.common.keys import INCOMING_PREFIX
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from avion_media.operations.doctor.trial import BODY, Trial, describe

UPLOADS: Final = Checks[Trial](Area.STORE)
_MAX_SKEW_S: Final = 60.0
_UNCHECKED: Final = "clients can upload content that was never checked"


@UPLOADS.add("clock in sync", "upload URLs expire too early or too late")
async def _clock(trial: Trial) -> str:
    response = await trial.send(trial.granted("clock"))
    date = response.headers.get("date", "")
    try:
        theirs = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return "no Date header"
    skew_s = abs((theirs - datetime.now(UTC)).total_seconds())
    if skew_s > _MAX_SKEW_S:
        raise CheckFailed(f"clocks differ by {skew_s:.0f} s")
    return f"clocks differ by {skew_s:.0f} s"


@UPLOADS.add("rejects an upload of a different length", _UNCHECKED)
async def _other_length(trial: Trial) -> str:
    return await trial.refused("length", body=BODY + b"!")


@UPLOADS.add("rejects an upload of a different type", _UNCHECKED)
async def _other_type(trial: Trial) -> str:
    return await trial.refused("type", headers={"Content-Type": "text/html"})


@UPLOADS.add("rejects an upload to a different key", "one upload URL can overwrite any media item")
async def _other_key(trial: Trial) -> str:
    granted = trial.granted("key")
    elsewhere = granted.url.replace(trial.key("key"), trial.key("elsewhere"), 1)
    return await trial.refused("elsewhere", granted=replace(granted, url=elsewhere))


@UPLOADS.add("rejects content that does not match the signed SHA-256", _UNCHECKED)
async def _other_bytes(trial: Trial) -> str:
    granted = trial.granted("bytes", sha256=hashlib.sha256(BODY).digest())
    return await trial.refused("bytes", granted=granted, body=BODY[::-1])


@UPLOADS.add("rejects expired URLs", "upload URLs never expire")
async def _expired(trial: Trial) -> str:
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    return await trial.refused("expired", granted=trial.granted("expired", now=long_ago))


@UPLOADS.add("requires a signature to read incoming/", "unchecked uploads are public")
async def _private(trial: Trial) -> str:
    await trial.put("private")
    response = await trial.http.get(trial.plain_url("private"))
    if response.status_code == 200:
        raise CheckFailed(f"{INCOMING_PREFIX} can be read without a signature")
    return describe(response)


@UPLOADS.add(
    "allows uploads from browsers (CORS)", "uploads from browsers fail; run `avion-media init`", CheckStatus.WARNING
)
async def _preflight(trial: Trial) -> None:
    granted = trial.granted("cors", sha256=bytes(32))
    response = await trial.http.options(
        granted.url,
        headers={
            "Origin": "https://social.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in granted.headers)),
        },
    )
    allowed = response.headers.get("access-control-allow-methods", "")
    if response.status_code >= 400 or "PUT" not in allowed:
        raise CheckFailed(f"the preflight got the response {describe(response)}")

"""The model of a store answers the same as a real one (Ceph).

The library's own tests compare the model with the answers that are written down in `s3_answers.json`; this test
compares Ceph with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import trio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import trio_simulation
from tests.conftest import S3Bucket
from tests.services import S3Address
from trio_simulation.tests.http_client import request
from trio_simulation.tests.s3_questions import answers

ANSWERS = Path(trio_simulation.__file__).parent / "tests/s3_answers.json"


async def test_ceph_gives_the_answers_that_the_model_gives(s3: S3Bucket, ceph_address: S3Address) -> None:
    place = urlsplit(ceph_address.endpoint_url)
    assert place.hostname is not None
    assert place.port is not None
    signer = S3SigV4Auth(Credentials(ceph_address.access_key, ceph_address.secret_key), "s3", "us-east-1")

    async def send(
        method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{ceph_address.endpoint_url}/{s3.bucket}/{target}"
        signed = AWSRequest(method, url, dict(headers), body)
        signer.add_auth(signed)
        assert place.hostname is not None
        assert place.port is not None
        with trio.fail_after(60):
            async with await trio.open_tcp_stream(place.hostname, place.port) as stream:
                path = url.removeprefix(ceph_address.endpoint_url)
                return await request(stream, method, place.netloc, path, dict(signed.headers.items()), body)

    found = await answers(send, s3.bucket)
    assert found == json.loads(ANSWERS.read_text())

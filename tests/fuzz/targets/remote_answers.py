"""Answers of remote servers: whatever arrives ends as a file within its bounds, or as one of the declared errors."""

from __future__ import annotations

import os
import tempfile

import trio
import trio.testing

from guarded_fetch import AddressGuard, FetchError, FetchTimeouts, ServerError, parse_remote_url
from guarded_fetch.exchange import Exchange
from guarded_fetch.fetcher import Fetcher, _check_status, validators_from, validators_of
from tests.fuzz.parser import parser_target

_MAX_BYTES = 4096
_MAX_WIRE_BYTES = 64 << 10
_URL = parse_remote_url("http://public.example/picture.png")
_FETCHER = Fetcher(AddressGuard(), max_bytes=_MAX_BYTES, timeout_s=10.0, user_agent="test")
_SEEDS = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "v1"\r\nLast-Modified: Wed, 01 Jul 2026 10:00:00 GMT\r\n\r\n'
    b"picture",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\npict\r\n3\r\nure\r\n0\r\nTrailer: a\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\nuntil the end",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
    b"HTTP/1.1 302 Found\r\nLocation: //elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 01 Jul 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
    b"SSH-2.0-OpenSSH_9.9\r\n",
]


async def _converse(data: bytes, fd: int) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with ours, theirs:
        await theirs.send_all(data)
        await theirs.send_eof()
        answer = Exchange(ours, FetchTimeouts(), _MAX_WIRE_BYTES)
        await answer.ask(_URL, "avion-media")
        _check_status(answer)
        size_bytes = await _FETCHER._save_body(answer, fd, _MAX_BYTES)
        assert 0 < size_bytes <= _MAX_BYTES
        assert os.fstat(fd).st_size == size_bytes
        kept = validators_of(_URL, answer.header(b"etag"), answer.header(b"last-modified"))
        assert kept is None or validators_from(kept.to_metadata()) == kept


def _feed(data: bytes) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        try:
            trio.run(_converse, data, file.fileno(), clock=trio.testing.MockClock(autojump_threshold=0))
        except FetchError as error:
            _check_error(error)
        assert os.fstat(file.fileno()).st_size <= _MAX_BYTES


def _check_error(error: FetchError) -> None:
    assert error.detail.isprintable(), "a stranger writes into our log"
    assert len(error.detail) < 300
    if isinstance(error, ServerError) and error.retry_after_s is not None:
        assert 1.0 <= error.retry_after_s <= 3600.0


TARGET = parser_target("remote-answers", lambda: _SEEDS, _feed, max_bytes=8192)

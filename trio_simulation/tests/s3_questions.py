"""Questions for a store with an empty bucket, and what is compared of its answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

Headers = Mapping[str, str]
# Method, path and query behind the bucket, headers, body; returns status, headers by lower-case name, body.
Send = Callable[[str, str, Headers, bytes], Awaitable[tuple[int, Headers, bytes]]]

_SHOWN_HEADERS = ("etag", "content-type", "content-range", "content-length", "cache-control", "content-encoding")
_SHOWN_ELEMENTS = re.compile(
    "<(Code|Key|Size|ETag|Prefix|IsTruncated|KeyCount|MaxKeys|PartNumber|CommonPrefixes|Deleted)>([^<]*)"
)
PART_BYTES = 5 << 20
HELLO_ETAG = '"5d41402abc4b2a76b9719d911017c592"'


@dataclass(frozen=True)
class Question:
    method: str
    target: str
    headers: Headers = field(default_factory=dict)
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target} {dict(self.headers) or ''}".strip()


def _put(key: str, body: bytes = b"hello", **headers: str) -> Question:
    return Question("PUT", key, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def _get(key: str, **headers: str) -> Question:
    return Question("GET", key, {name.replace("_", "-"): value for name, value in headers.items()})


def _copy(key: str, source: str, **headers: str) -> Question:
    return _put(key, b"", x_amz_copy_source=f"{{bucket}}/{source}", **headers)


def _delete(*keys: str, quiet: bool = False) -> Question:
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    flag = "<Quiet>true</Quiet>" if quiet else ""
    return Question("POST", "?delete=", {}, f"<Delete>{flag}{objects}</Delete>".encode())


def _complete(key: str, *parts: tuple[int, str], **headers: str) -> Question:
    body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>"
    return Question("POST", f"{key}?uploadId={{upload}}", named, text.encode())


_A_ETAG = '"79b281060d337b9b2b84ccf390adcf74"'  # 5 MiB of "a"
_B_ETAG = '"92eb5ffee6ae2fec3ad71c777531578f"'  # "b"

QUESTIONS = (
    # one object
    _put("one", content_type="text/plain", x_amz_meta_colour="blue", cache_control="no-cache"),
    _get("one"),
    Question("HEAD", "one"),
    Question("HEAD", "none"),
    _get("none"),
    _put("typeless"),
    Question("HEAD", "typeless"),
    _put("empty", b""),
    _get("empty"),
    Question("DELETE", "typeless"),
    Question("DELETE", "typeless"),
    Question("HEAD", ""),
    # ranges
    _get("one", range="bytes=1-3"),
    _get("one", range="bytes=1-"),
    _get("one", range="bytes=-2"),
    _get("one", range="bytes=1-99"),
    _get("one", range="bytes=5-9"),
    # conditions
    _put("one", b"other", if_none_match="*"),
    _put("two", b"other", if_none_match="*"),
    # Ceph 18 refuses every ETag in quotation marks here; AWS takes both.
    _put("one", b"hello", if_match=HELLO_ETAG.strip('"')),
    _put("one", b"wrong", if_match="0" * 32),
    _put("none", b"wrong", if_match="0" * 32),
    _get("one", if_match=HELLO_ETAG),
    _get("one", if_match='"0"'),
    _get("one", if_none_match=HELLO_ETAG),
    _get("one", if_none_match='"0"'),
    # copies
    _put("one", content_type="text/plain", x_amz_meta_colour="blue"),
    _copy("copy", "one"),
    Question("HEAD", "copy"),
    _copy("copy", "one", x_amz_metadata_directive="REPLACE", content_type="image/png", x_amz_meta_size="big"),
    Question("HEAD", "copy"),
    _copy("copy", "none"),
    _copy("copy", "one", x_amz_copy_source_if_match='"0"'),
    _copy("copy", "one", x_amz_copy_source_if_match=HELLO_ETAG),
    _copy("one", "one", x_amz_metadata_directive="REPLACE", content_type="text/html"),
    Question("HEAD", "one"),
    # uploads in parts
    Question("POST", "big?uploads=", {"content-type": "video/mp4", "x-amz-meta-colour": "red"}),
    Question("PUT", "big?partNumber=1&uploadId={upload}", {}, b"a" * PART_BYTES),
    Question("PUT", "big?partNumber=2&uploadId={upload}", {}, b"b"),
    Question("GET", "big?uploadId={upload}"),
    _complete("big", (1, _A_ETAG), (2, '"00000000000000000000000000000000"')),
    _complete("big", (1, _A_ETAG), (2, _B_ETAG)),
    Question("HEAD", "big"),
    _get("big", range=f"bytes={PART_BYTES - 1}-{PART_BYTES}"),
    Question("PUT", "big?partNumber=3&uploadId={upload}", {}, b"b"),
    Question("POST", "small?uploads=", {}),
    Question(
        "PUT",
        "small?partNumber=1&uploadId={upload}",
        {"x-amz-copy-source": "{bucket}/one", "x-amz-copy-source-range": "bytes=1-3"},
    ),
    Question("PUT", "small?partNumber=2&uploadId={upload}", {}, b"b"),
    _complete("small", (1, '"5ea4a6d0bc4d3f0a8bc9a4b9a6ba9e5e"')),
    Question("DELETE", "small?uploadId={upload}"),
    Question("DELETE", "small?uploadId={upload}"),
    Question("HEAD", "small"),
    # listings
    *(_put(key, b"x") for key in ("list/a", "list/b/1", "list/b/2", "list/c", "list/d/1", "list/%C3%BC")),
    _get("?list-type=2&prefix=list%2F"),
    _get("?list-type=2&prefix=list%2F&delimiter=%2F"),
    _get("?list-type=2&prefix=list%2F&start-after=list%2Fb%2F1"),
    _get("?list-type=2&prefix=list%2F&max-keys=2"),
    _get("?list-type=2&prefix=list%2F&max-keys=2&continuation-token={token}"),
    _get("?list-type=2&prefix=list%2F&max-keys=2&delimiter=%2F"),
    _get("?list-type=2&prefix=list%2F&max-keys=2&delimiter=%2F&continuation-token={token}"),
    _get("?list-type=2&prefix=none%2F"),
    _get("?list-type=2&prefix=list%2F%C3%BC&encoding-type=url"),
    # many
    _delete("list/a", "list/none"),
    _delete("list/b/1", "list/b/2", quiet=True),
    _get("?list-type=2&prefix=list%2F"),
)  # fmt: skip


async def answers(send: Send, bucket: str) -> list[dict[str, Any]]:
    """Ask all questions in order, and return what can be compared."""
    found = []
    remembered = {"bucket": f"/{bucket}", "upload": "", "token": ""}
    for question in QUESTIONS:
        target = _filled(question.target, remembered)
        headers = {name: _filled(value, remembered) for name, value in question.headers.items()}
        status, got, body = await send(question.method, target, headers, question.body)
        text = body.decode(errors="replace")
        for name, tag in (("upload", "UploadId"), ("token", "NextContinuationToken")):
            if match := re.search(f"<{tag}>([^<]*)</{tag}>", text):
                remembered[name] = quote(match[1], safe="~")
        found.append({"question": str(question), "status": status, **_shown(status, got, text)})
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _shown(status: int, headers: Headers, text: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if text.startswith("<"):
        elements: dict[str, list[str]] = {}
        for name, value in _SHOWN_ELEMENTS.findall(text):
            elements.setdefault(name, []).append(value.replace("&quot;", "").strip('"'))
        if "<DeleteResult" in text:  # in no order
            elements = {name: sorted(values) for name, values in elements.items()}
        shown["elements"] = elements
    elif len(text) < 100:
        shown["body"] = text
    if status < 300 and "elements" not in shown:
        shown["headers"] = {name: headers[name] for name in _SHOWN_HEADERS if name in headers}
        shown["headers"] |= {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    return shown

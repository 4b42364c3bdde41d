"""Requests and answers, without the bytes of HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qsl, unquote, urlsplit

_XML = "application/xml"


class Refused(Exception):
    """The store refuses a request with this status and code."""

    def __init__(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
      key: of the object, "" for the bucket.
      query: the parameters, without those of a signature.
      headers: by lower-case name.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Return the request to a path-style URL."""
        parts = urlsplit(target)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        signed = {name.lower(): value for name, value in query.items() if name.lower().startswith("x-amz-meta-")}
        wanted = {name: value for name, value in query.items() if not name.lower().startswith("x-amz-")}
        return cls(method, bucket, key, wanted, {**signed, **headers}, body)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of_xml(cls, root: str, fields: Sequence[Field], status: int = 200) -> Answer:
        """Return a document of these fields."""
        text = f'<?xml version="1.0" encoding="UTF-8"?>{element(root, fields)}'
        return cls(status, {"content-type": _XML}, text.encode())

    @classmethod
    def of_refusal(cls, refused: Refused) -> Answer:
        """Return what a client gets for an error."""
        fields: list[Field] = [("Code", refused.code), ("Message", refused.code)]
        found = cls.of_xml("Error", fields, refused.status)
        return cls(found.status, {**found.headers, **refused.headers}, found.body)


Field = tuple[str, "str | int | Sequence[Field]"]


def element(name: str, value: str | int | Sequence[Field]) -> str:
    """Return an element of XML."""
    if isinstance(value, str | int):
        return f"<{name}>{escape(str(value))}</{name}>"
    return f"<{name}>{''.join(element(*each) for each in value)}</{name}>"

"""Small urlencoded forms, whose fields can have several values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

_MAX_FORM_BYTES: Final = 16 << 10


class Form:
    """The fields of a form or a query."""

    def __init__(self, fields: Mapping[str, tuple[str, ...]]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> str | None:
        """Return the first value of a field; None if there is none."""
        values = self._fields.get(name, ())
        return values[0] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a field."""
        return self._fields.get(name, ())

    def flat(self) -> dict[str, str]:
        """Return the first value of each field."""
        return {name: values[0] for name, values in self._fields.items() if values}


async def read_form(request: Request) -> Form:
    """Read the body of a request. If it is not a form, or is too large, the form is empty."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return Form({})
    return Form({name: tuple(values) for name, values in parse_qs(body.decode(errors="replace")).items()})

"""Stored records: what outlives the process that wrote it, in the bucket and on Redis.

Each kind of record is one `Record`, beside the class of its values: its kind, its key, its fields (those of the class)
and its version. A record is read by processes of other versions, before and after an upgrade. Therefore:

* a reader ignores fields that it does not know, and a new field has a default;
* ``v`` is the version, 1 if it is missing; it is raised only if older readers would misread the record;
* a record that cannot be read (another version, an unknown kind, not in its form) is reported once per process, by
  `UNREADABLE`: in the log, in ``avion.records.unreadable``, in the console and in ``doctor``. A reader of many records
  skips it. A reader of one record gets `UnreadableRecord`, which is `Unavailable`: a process that can read it goes on.

docs/reference/records.md lists all records; `tests/data/records` has a sample of each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from functools import cached_property
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from avion_media.common.errors import Dependency, Unavailable
from trio_telemetry import get_logger

T = TypeVar("T")
Raw = bytes | Mapping[str, str]
"""A stored record: an object or string, or the fields of a hash or of an entry of a stream."""
InJson: Final = BeforeValidator(lambda found: json.loads(found) if isinstance(found, str) else found)
"""For a field of a hash that has parts: it is stored as JSON."""
_MAX_KNOWN: Final = 1000  # unreadable records that a process remembers; others are only counted, at each read
_SHOWN: Final = 5
_VERSION: Final = "v"
_log = get_logger()


class UnreadableRecord(Unavailable):
    """This version cannot read a stored record. ``kind`` and ``key`` name it, ``why`` says what is wrong with it."""

    def __init__(self, kind: str, key: str, why: str) -> None:
        super().__init__(Dependency.OBJECT, why)
        self.args = (f"the {kind} record {key} cannot be read: {why}",)
        self.kind = kind
        self.key = key
        self.why = why


class Unreadable:
    """The unreadable records that this process came across: how many of each kind, and the reasons by key."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.found: dict[str, str] = {}

    def note(self, error: UnreadableRecord) -> None:
        """Count and log a record, once."""
        if error.key in self.found:
            return
        self.counts[error.kind] += 1
        if len(self.found) < _MAX_KNOWN:
            self.found[error.key] = error.why
            _log.error("record.unreadable", kind=error.kind, key=error.key, error=error.why)

    def forget(self, key: str) -> None:
        """Forget a record that could be read now."""
        self.found.pop(key, None)

    def first(self) -> dict[str, str]:
        """Return the reasons of some of them, by key."""
        return dict(islice(self.found.items(), _SHOWN))


UNREADABLE: Final = Unreadable()
RECORDS: Final[dict[str, Record[Any]]] = {}
"""All kinds of records, by name."""


class Record(Generic[T]):
    """One kind of record. The subclasses are the forms in which records are stored.

    ``key`` is its key in the bucket or on Redis, with ``<…>`` for parts. ``of`` is the class of its values,
    ``writer`` what writes it, for the documentation. A field that is not stored has ``compare=False`` and pydantic's
    ``exclude``.
    """

    def __init__(
        self, kind: str, of: type[T], key: str, writer: str, *, version: int = 1, fields: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self.key = key
        self.writer = writer
        self.version = version
        stored = fields or [each.name for each in dataclass_fields(of) if each.compare]  # type: ignore[arg-type]
        self.fields = tuple(stored)
        self.of = of
        assert RECORDS.get(kind) is None, f"two records are named {kind}"
        RECORDS[kind] = self

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.of)

    def read(self, raw: Raw, key: str) -> T:
        """Return the value of a record. Raises `UnreadableRecord`, which is reported already."""
        try:
            value = self._parse(raw, key)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            unreadable = UnreadableRecord(self.kind, key, _reason(error))
            UNREADABLE.note(unreadable)
            raise unreadable from error
        UNREADABLE.forget(key)
        return value

    def read_or_skip(self, raw: Raw, key: str) -> T | None:
        """Return the value of a record; None if it cannot be read, which is reported."""
        try:
            return self.read(raw, key)
        except UnreadableRecord:
            return None

    def _parse(self, raw: Raw, key: str) -> T:
        raise NotImplementedError

    def _of_fields(self, found: object) -> T:
        if not isinstance(found, Mapping):
            raise ValueError("it is not an object with fields")
        if int(found.get(_VERSION, 1)) > self.version:
            raise ValueError(f"it has version {found[_VERSION]}; this process reads versions up to {self.version}")
        return self._adapter.validate_python(found)


class JsonRecord(Record[T]):
    """A record that is a JSON object."""

    def write(self, value: T) -> bytes:
        """Return the record as it is stored."""
        document = {_VERSION: self.version, **self._adapter.dump_python(value, mode="json")}
        return json.dumps(document, separators=(",", ":")).encode()

    def _parse(self, raw: Raw, key: str) -> T:
        assert isinstance(raw, bytes)
        return self._of_fields(json.loads(raw))


class HashRecord(Record[T]):
    """A record that is a hash on Redis, or an entry of a stream. Fields are text; one with parts is JSON (`InJson`)."""

    def write(self, value: T) -> dict[str, str]:
        """Return the fields as they are stored."""
        document = self._adapter.dump_python(value, mode="json")
        return {name: each if isinstance(each, str) else json.dumps(each) for name, each in document.items()}

    def _parse(self, raw: Raw, key: str) -> T:
        assert not isinstance(raw, bytes)
        return self._of_fields(raw)


class CustomRecord(Record[T]):
    """A record in a form of its own, for records of which there are millions, or which scripts of Redis write.

    ``parse`` gets the record and its key, and raises ValueError. ``fields`` are those that are stored.
    """

    def __init__(
        self, kind: str, of: type[T], key: str, writer: str, *, fields: Sequence[str], parse: Callable[[Any, str], T]
    ) -> None:
        super().__init__(kind, of, key, writer, fields=fields)
        self._parse_one = parse

    def _parse(self, raw: Raw, key: str) -> T:
        return self._parse_one(raw.decode() if isinstance(raw, bytes) else raw, key)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, json.JSONDecodeError):
        return "it is not JSON"
    return (
        f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError | RecursionError) else str(error)
    )

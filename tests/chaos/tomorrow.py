"""Tomorrow's version: a copy of this one in which every record has one more field, every list of kinds that is stored
one more kind, and the table of formats one more code.

The copy is changed where records leave the process, not record by record: the functions that write records, the calls
of Redis and of the store, the scripts, and the source of the lists. It also reads records of version 2, which it writes
nowhere. `build` raises `NothingToChange` if the source no longer has one of these places.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

FIELD = "tomorrow"  # the field that every record of tomorrow's has; also the name of each new kind
FORMAT_CODE = 100  # without the bit of private media
ROOT = Path(__file__).parents[2]
_KINDS = {  # lists of kinds that are stored: their modules, and their classes
    "common/errors.py": ("Reason",),
    "backends/queue/bulk_jobs.py": ("JobState",),
    "process/lifecycle.py": ("Phase",),
    "items/moderation/entries.py": ("HashType",),
    "items/deletion/records.py": ("DeletionState",),
    "items/deletion/journal.py": ("JournalKind",),
}
_FORMAT = f"""\
TOMORROW = MediaFormat({FORMAT_CODE}, "{FIELD}", Family.IMAGE, "image/x-{FIELD}", ("{FIELD}",))
"""
# Lines for the ends of modules. Each replaces something that the module defines.
_ENDS = {
    "common/records.py": """
        def _with_one_more_field(write):
            def write_more(self, value):
                written = write(self, value)
                if isinstance(written, bytes):
                    document = {**json.loads(written), _VERSION: self.version - 1, "FIELD": "1"}
                    return json.dumps(document, separators=(",", ":")).encode()
                return {**written, "FIELD": "1"}
            return write_more

        _initialise = Record.__init__

        def _with_another_version(self, *args, version=1, **options):
            _initialise(self, *args, version=version + 1, **options)

        Record.__init__ = _with_another_version
        JsonRecord.write = _with_one_more_field(JsonRecord.write)
        HashRecord.write = _with_one_more_field(HashRecord.write)
        """,
    "backends/queue/entries.py": """
        _task_fields = task_fields

        def task_fields(task):
            return {**_task_fields(task), "FIELD": "1"}
        """,
    "items/state/status_store.py": """
        _write_status = _write

        def _write(status):
            return _write_status(status) + (" FIELD" if status.facts or status.state is State.FAILED else "")
        """,
    "backends/redis/client.py": """
        import json as _json

        def _with_one_more_field(argument):
            text = argument.decode(errors="replace") if isinstance(argument, bytes) else argument
            if not isinstance(text, str) or not text.startswith('{"'):
                return argument
            try:
                document = _json.loads(text)
            except ValueError:
                return argument
            if "task_id" in document or "event_id" in document:  # not a part of a record
                return _json.dumps({**document, "FIELD": "1"}, separators=(",", ":"))
            return argument

        _execute = Redis.execute

        async def _execute_more(self, *command, **options):
            if command[0] not in ("ZREM", "SREM", "ZSCORE"):
                command = tuple(_with_one_more_field(each) for each in command)
            if command[0] == "HSET" and command[1] != "media_replicas":  # a hash with a record in each field
                command = (*command, "FIELD", "1")
            return await _execute(self, *command, **options)

        Redis.execute = _execute_more
        """,
    "backends/store/facts.py": """
        _plain_headers = headers_of

        def headers_of(content_type, metadata):
            return _plain_headers(content_type, {**metadata, "FIELD": "1"} if metadata else metadata)
        """,
    "backends/store/store.py": """
        import json as _json

        _put = ObjectStore.put

        async def _put_more(self, key, source, *, content_type, **options):
            if content_type == "application/json" and source and "/unreadable/" not in key:
                documents = map(_json.loads, source.split(b"\\n"))  # joined parts of the journal are several lines
                lines = [_json.dumps({**each, "FIELD": "1"}, separators=(",", ":")) for each in documents]
                source = "\\n".join(lines).encode()
            return await _put(self, key, source, content_type=content_type, **options)

        ObjectStore.put = _put_more
        """,
}


class NothingToChange(Exception):
    """The source has changed, and this module does not know how to make tomorrow's version of it."""


def build(folder: Path) -> Path:
    """Write the copy to ``folder``, and return what to put first on ``PYTHONPATH``."""
    package = folder / "avion_media"
    shutil.copytree(ROOT / "avion_media", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, classes in _KINDS.items():
        _change(package / name, lambda source, classes=classes: with_one_more_kind(source, classes))
    _change(package / "common/formats.py", _with_one_more_format)
    for name, lines in _ENDS.items():
        _change(package / name, lambda source, lines=lines: f"{source}\n\n{dedent(lines).replace('FIELD', FIELD)}")
    _change_scripts(package)
    _require_whole(folder)
    return folder


def _change(path: Path, change: object) -> None:
    if not path.exists():
        raise NothingToChange(f"{path.name} is gone; tests/chaos/tomorrow.py changes it")
    try:
        path.write_text(change(path.read_text()))  # type: ignore[operator]
    except NothingToChange as error:
        raise NothingToChange(f"{path}: {error}") from None


def with_one_more_kind(source: str, classes: tuple[str, ...]) -> str:
    """Add a member to each of these enums, and a row to each table of the module that has a row for each member."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    after: dict[int, str] = {}
    for name in classes:
        enum = next((each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name), None)
        members = [each for each in enum.body if isinstance(each, ast.Assign)] if enum is not None else []
        if not members:
            raise NothingToChange(f"no list of kinds {name}")
        after[members[-1].end_lineno or 0] = f'    {FIELD.upper()} = "{FIELD}"\n'
        for table in _tables_of(tree, name, len(members)):
            row = f"{name}.{FIELD.upper()}: {ast.unparse(table.values[-1])},\n"
            after[table.values[-1].end_lineno or 0] = f"    {row}"
    return "".join(f"{line}{after.get(number, '')}" for number, line in enumerate(lines, 1))


def _tables_of(tree: ast.Module, enum: str, size: int) -> list[ast.Dict]:
    tables = [each.value for each in tree.body if isinstance(each, ast.Assign | ast.AnnAssign)]
    return [
        each
        for each in tables
        if isinstance(each, ast.Dict)
        and len(each.keys) == size
        and all(isinstance(key, ast.Attribute) and ast.unparse(key.value) == enum for key in each.keys)
    ]


def _with_one_more_format(source: str) -> str:
    """Add a format behind the others."""
    changed, found = re.subn(
        r"^(FORMATS\b[^=]*= \()(.*?)(^\))$",
        rf"{_FORMAT}\n\1\2    {FIELD.upper()},\n\3",
        source,
        count=1,
        flags=re.MULTILINE | re.DOTALL,
    )
    if not found:
        raise NothingToChange("no table FORMATS")
    return changed


def _change_scripts(package: Path) -> None:
    """Let each HSET of the scripts write one more field."""
    found = 0
    for path in package.rglob("*.lua"):
        changed, count = re.subn(r"(redis\.p?call\('HSET', [^,]+,)", rf"\1 '{FIELD}', '1',", path.read_text())
        path.write_text(changed)
        found += count
    if not found:
        raise NothingToChange("no script writes a hash with redis.call('HSET', …)")


def _require_whole(folder: Path) -> None:
    """Import what was changed, and compare."""
    modules = [name.removesuffix(".py").replace("/", ".") for name in (*_KINDS, *_ENDS)]
    check = f"""
        from importlib import import_module
        from avion_media.common.formats import BY_CODE
        for each in {modules!r}:
            assert import_module("avion_media." + each).__file__.startswith({str(folder)!r}), each
        assert {FORMAT_CODE} in BY_CODE
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", dedent(check)],
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NothingToChange(f"tomorrow's version does not start:\n{done.stderr}")

"""This version reads what tomorrow's writes, and the version skew notices when it cannot make tomorrow's version.
`make skew` runs both under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from avion_media.common.records import RECORDS, UNREADABLE, HashRecord, JsonRecord
from tests.chaos import tomorrow
from tests.unit.common.test_records import KINDS, key_of, sample_of, stored

WRITTEN = sorted(kind for kind in KINDS if isinstance(RECORDS[kind], JsonRecord | HashRecord))
_WRITE_ALL = """
import json
from tests.chaos.test_skew import RECORDS, WRITTEN, key_of, sample_of
written = {kind: RECORDS[kind].write(RECORDS[kind].read(sample_of(kind), key_of(kind))) for kind in WRITTEN}
print(json.dumps({kind: json.loads(each) if isinstance(each, bytes) else each for kind, each in written.items()}))
"""


def test_records_that_tomorrows_version_wrote_are_read(tmp_path: Path) -> None:
    folder = tomorrow.build(tmp_path)
    program = subprocess.run(
        [sys.executable, "-P", "-c", _WRITE_ALL],
        env={"PYTHONPATH": f"{folder}:{tomorrow.ROOT}"},
        capture_output=True,
        text=True,
    )
    assert program.returncode == 0, program.stderr
    written = json.loads(program.stdout)
    UNREADABLE.counts.clear()
    for kind in WRITTEN:
        assert written[kind][tomorrow.FIELD] == "1"
        record = RECORDS[kind]
        assert record.read(stored(record, written[kind]), key_of(kind)) == record.read(sample_of(kind), key_of(kind))
    assert not UNREADABLE.counts


@pytest.mark.parametrize("source", ["", "class Reason(StrEnum):\n    pass\n"])
def test_a_list_of_kinds_that_is_gone_is_named(source: str) -> None:
    with pytest.raises(tomorrow.NothingToChange, match="Reason"):
        tomorrow.with_one_more_kind(source, ("Reason",))


def test_a_list_of_kinds_and_its_table_get_one_more() -> None:
    source = 'class A(StrEnum):\n    B = "b"\n\n\nT = {\n    A.B: 1,\n}\n'
    assert tomorrow.with_one_more_kind(source, ("A",)).splitlines() == [
        "class A(StrEnum):", '    B = "b"', '    TOMORROW = "tomorrow"', "", "",
        "T = {", "    A.B: 1,", "    A.TOMORROW: 1,", "}",
    ]  # fmt: skip

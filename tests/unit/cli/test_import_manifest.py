"""The files of an import, and the ids that its rows get."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from avion_media.cli.importing import Row, check_manifest, imported_id, open_map, rows_of
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.common.formats import JPEG, PNG
from avion_media.common.ids import parse_media_id

DATE = datetime(2018, 4, 1, 12, 30, 15, 250_000, UTC)


def manifest(directory: Path, text: str) -> Path:
    path = directory / "manifest.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_a_manifest_names_files_in_any_order_of_columns(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "\ufeffdate,extra,source,owner,name\n"
        '2018-04-01 12:30:15.25,x,a/b.jpg,alice,"cat, sleeping.jpeg"\n'
        "2018-04-01T14:30:15+02:00,,caf\udce9.png,,\n",
    )
    assert check_manifest(path) == 2
    assert list(rows_of(path)) == [
        Row(2, "a/b.jpg", "cat, sleeping.jpeg", DATE, "alice"),
        Row(3, "caf\udce9.png", "caf\udce9.png", DATE.replace(microsecond=0), ""),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",a.jpg,2018-04-01,", "source is empty"),
        ("a.jpg,,,", "is not a date"),
        ("a.jpg,,yesterday,", "is not a date"),
        ("a.jpg,,1969-12-31,", "before 1970"),
        ("a.jpg,,9999-01-01,", "in the future"),
        ("a.jpg,,2018-04-01,@alice", "cannot be an owner"),
    ],
)
def test_nothing_is_imported_of_a_manifest_with_a_bad_row(tmp_path: Path, row: str, problem: str) -> None:
    path = manifest(tmp_path, f"source,name,date,owner\nfine.jpg,,2018-04-01,\n{row}\n")
    with pytest.raises(UsageError) as found:
        check_manifest(path)
    assert found.value.lines[0].startswith(f"{path}:3: ")
    assert problem in found.value.lines[0]


def test_the_columns_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there: source, date"):
        check_manifest(manifest(tmp_path, "a.jpg,2018-04-01\n"))


def test_the_id_of_a_row_is_the_same_each_time_and_shows_date_and_format() -> None:
    row = Row(2, "a/b.jpg", "b.jpg", DATE, "alice")
    media_id = imported_id(row, JPEG, b"secret")
    assert parse_media_id(str(media_id)) == media_id
    assert (media_id.created, media_id.format) == (DATE, JPEG)
    assert imported_id(Row(9, "a/b.jpg", "other name", DATE, ""), JPEG, b"secret") == media_id
    others = [
        imported_id(Row(2, "a/c.jpg", "b.jpg", DATE, "alice"), JPEG, b"secret"),
        imported_id(row, JPEG, b"another secret"),
        imported_id(row, PNG, b"secret"),
    ]
    assert len({str(each)[-13:] for each in others[:2]} | {str(media_id)[-13:]}) == 3
    assert others[2] != media_id


def test_a_map_goes_on_where_an_import_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    with open_map(path) as redirects:
        redirects.add("a,1.jpg", "ID1", "/media/ID1")
    with path.open("ab") as file:
        file.write(b"b.jpg,ID2,/me")  # the process was killed in the middle of the write
    with open_map(path) as redirects:
        assert "a,1.jpg" in redirects
        assert "b.jpg" not in redirects
        redirects.add("b.jpg", "ID2", "/media/ID2")
        with pytest.raises(CommandFailed, match="another import"), open_map(path):
            pass
    assert path.read_text() == 'source,media_id,url\n"a,1.jpg",ID1,/media/ID1\nb.jpg,ID2,/media/ID2\n'

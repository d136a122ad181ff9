from __future__ import annotations

from pathlib import Path

import pytest

from kit.store_rows import COLUMNS, LINEAGE, make_rows, plain, table_of
from msfser_cli.store import layout, tables
from msfser_cli.store.arrow import schema, size, to_table
from msfser_cli.store.lineage import metadata
from msfser_cli.store.place import place_of

TARGET = schema(COLUMNS, {"gs_vector": 3}, metadata(LINEAGE))


def write(out: str, counts: dict[str, int], last: Path | None = None) -> None:
    recordings = ((name, to_table(make_rows(name, count), COLUMNS)) for name, count in counts.items())
    if last is None:
        layout.write_whole(place_of(out), recordings, TARGET)
    else:
        layout.add_files(place_of(out), last, recordings, TARGET)


def bytes_of(name: str, count: int) -> int:
    return size(to_table(make_rows(name, count), COLUMNS))


def test_a_file_holds_whole_recordings_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FILE_BYTES", bytes_of("r0", 8))
    counts = {"r0": 4, "r1": 4, "r2": 5, "r3": 4, "r4": 20, "r5": 1, "r6": 0, "r7": 1}
    write(f"{tmp_path}/x/", counts)
    files = tables.files(tmp_path / "x")
    assert [file.name for file in files] == [f"part-00000{number}.parquet" for number in range(len(files))]
    assert [tables.recording_ids(file) for file in files] == [["r0", "r1"], ["r2"], ["r3"], ["r4"], ["r5", "r7"]]
    assert table_of(tmp_path / "x") == {name: plain(make_rows(name, count)) for name, count in counts.items() if count}
    write(f"{tmp_path}/x/", {"s0": 8, "s1": 1}, last=files[-1])
    assert [tables.recording_ids(file) for file in tables.files(tmp_path / "x")[5:]] == [["s0"], ["s1"]]


def test_one_file_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FILE_BYTES", 1)
    write(f"{tmp_path}/x.parquet", {"a": 2, "b": 3})
    assert tables.recording_ids(tmp_path / "x.parquet") == ["a", "b"]


@pytest.mark.parametrize("counts", [{}, {"a": 0}])
def test_a_folder_without_rows_has_a_file(tmp_path: Path, counts: dict[str, int]) -> None:
    write(f"{tmp_path}/x/", counts)
    assert [file.name for file in tables.files(tmp_path / "x")] == ["part-000000.parquet"]
    assert table_of(tmp_path / "x") == {}


def test_a_folder_replaces_all_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FILE_BYTES", 1)
    write(f"{tmp_path}/x/", {"a": 2, "b": 3, "c": 1})
    (tmp_path / "x").chmod(0o750)
    write(f"{tmp_path}/x/", {"b": 1})
    assert [file.name for file in tables.files(tmp_path / "x")] == ["part-000000.parquet"]
    assert table_of(tmp_path / "x") == {"b": plain(make_rows("b", 1))}
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["x"]

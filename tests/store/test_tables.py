from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store_rows import COLUMNS, LINEAGE, make_rows, plain
from msfser_cli import schemas
from msfser_cli.errors import TableError
from msfser_cli.schemas import Column, columns_through
from msfser_cli.store import arrow, bounds, tables
from msfser_cli.store.lineage import metadata

FLOATS = st.floats(width=64)
WORD = st.fixed_dictionaries(
    {"word": st.text(), "start": FLOATS, "end": FLOATS, "score": st.none() | FLOATS, "aligned": st.booleans()}
)
CUE = st.fixed_dictionaries({name: st.none() | FLOATS for name in ("pitch_z", "energy_z", "duration_z")})
VECTOR = st.none() | hnp.arrays(np.float32, 5, elements=st.floats(width=32))
ROW = st.fixed_dictionaries({
    "recording_id": st.sampled_from(["a/b.wav", "ünï/ß 語.flac", "c"]),
    "utterance_id": st.text(),
    "start": FLOATS,
    "number": st.none() | st.integers(-(2**63), 2**63 - 1),
    "sure": st.none() | st.booleans(),
    "speaker": st.none() | st.text(),
    "words": st.lists(WORD, max_size=4),
    "emphasis": st.lists(st.none() | FLOATS, max_size=4),
    "emphasis_cues": st.lists(CUE, max_size=4),
    "gs_vector": VECTOR,
    "es_vector": VECTOR,
})  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A good table of three recordings."""
    path = tmp_path / "x.parquet"
    tables.write_rows(path, [row for name in "abc" for row in make_rows(name, 40)], COLUMNS, LINEAGE)
    return path


@given(st.lists(ROW, max_size=12))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_exactly(new_folder: Callable[[], Path], rows: list[dict[str, object]]) -> None:
    rows = sorted(rows, key=lambda row: str(row["recording_id"]))
    path = new_folder() / "x.parquet"
    tables.write_rows(path, rows, COLUMNS, LINEAGE)
    back = [row for _, recording in tables.iter_recordings(path, COLUMNS) for row in recording]
    assert plain(back) == plain(rows)
    assert plain(arrow.to_rows(tables.read(path, COLUMNS))) == plain(rows)
    assert tables.read_lineage(path) == LINEAGE


def test_vectors_are_views_of_one_memory(table: Path) -> None:
    rows = arrow.to_rows(tables.read(table, COLUMNS).combine_chunks())
    first, second = rows[0]["gs_vector"], rows[1]["gs_vector"]
    assert first.dtype == np.float32
    assert second.__array_interface__["data"][0] - first.__array_interface__["data"][0] == first.nbytes


def test_recordings_stream_across_row_groups(tmp_path: Path) -> None:
    counts = {"a": 1, "b": 3000, "c": 2000, "d": 2, "e": 5000}
    rows = {name: make_rows(name, count) for name, count in counts.items()}
    path = tmp_path / "x.parquet"
    found = [arrow.to_table(of, COLUMNS) for of in rows.values()]
    tables.write(path, found, arrow.schema(COLUMNS, {"gs_vector": 3}, metadata(LINEAGE)))
    assert pq.ParquetFile(path).num_row_groups > 1
    back = list(tables.iter_recordings(path, COLUMNS))
    assert [(name, len(recording)) for name, recording in back] == list(counts.items())
    assert plain(dict(back)) == plain(rows)
    assert tables.recording_ids(path) == list(counts)


@pytest.mark.parametrize("row_group", [1, 7, 1000])
def test_one_recording_is_read_from_the_row_groups_that_may_have_it(
    tmp_path: Path, row_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b/c", "b\u00fc", "b\U0001f600", "b\uffff", "z"]  # in the order of their code points, which is that of UTF-8
    names.sort()
    path, rows = tmp_path / "x.parquet", [row for name in names for row in make_rows(name, 5)]
    made = arrow.to_table(rows, COLUMNS)
    target = made.schema.with_metadata(metadata(LINEAGE))
    tables.write(path, (made.slice(i, 1) for i in range(len(made))), target, row_group=row_group)
    every = dict(tables.iter_recordings(path, COLUMNS))
    read: list[int] = []
    monkeypatch.setattr(tables, "bounded", lambda *given: read.append(len(given[-1])) or bounds.bounded(*given))
    for name in names:
        assert plain(dict(tables.iter_recordings(path, COLUMNS, name))) == plain({name: every[name]})
    assert max(read) <= {1: 5, 7: 2, 1000: 1}[row_group]
    assert list(tables.iter_recordings(path, COLUMNS, "b")) == []


def test_reading_holds_a_row_group_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    vectors = [Column("recording_id", "string", ""), Column("gs_vector", "vector", "", nullable=True)]
    vector = np.zeros(64, np.float32)
    found = (arrow.to_table([{"recording_id": f"{i:05d}", "gs_vector": vector}] * 64, vectors) for i in range(640))
    tables.write(path, found, arrow.schema(vectors, {"gs_vector": 64}, metadata(LINEAGE)))
    whole = 640 * 64 * 64 * 4
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in tables.iter_recordings(path, vectors))
    assert 0 < most < whole / 2


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("stage", schemas.STAGE_NAMES)
def test_a_table_of_any_stage_may_be_empty(tmp_path: Path, stage: str, vectors: bool) -> None:
    columns = columns_through(stage, vectors=vectors)
    path = tmp_path / "x.parquet"
    tables.write_rows(path, [], columns, LINEAGE)
    assert list(tables.iter_recordings(path, columns)) == []
    assert pl.read_parquet(path).columns == schemas.names(columns)


def test_polars_reads_what_was_written(table: Path) -> None:
    frame = pl.read_parquet(table)
    assert len(frame) == 120
    assert frame["gs_vector"].dtype == pl.Array(pl.Float32, 3)
    assert frame["gs_vector"].null_count() == 30
    assert frame["words"].dtype == pl.List(pl.Struct({
        "word": pl.String, "start": pl.Float64, "end": pl.Float64, "score": pl.Float64, "aligned": pl.Boolean}))  # fmt: skip


def test_a_missing_column_names_the_command_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    tables.write_rows(path, [], schemas.TRANSCRIBE, replace(LINEAGE, stage="transcribe"))
    with pytest.raises(TableError, match=r"x\.parquet: a table of `transcribe` without .*'emphasis'; `msfser emphasize`"):
        tables.iter_recordings(path, columns_through("emphasize"))


def test_a_wrong_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    tables.write_rows(path, [], [Column("recording_id", "string", ""), Column("start", "string", "")], LINEAGE)
    with pytest.raises(TableError, match="'start' is string and should be float64"):
        tables.iter_recordings(path, schemas.TRANSCRIBE[:1] + schemas.TRANSCRIBE[2:3])


def _foreign(path: Path) -> str:
    pq.write_table(pa.table({"recording_id": ["a"]}), path)
    return "did not write"


def _newer(path: Path) -> str:
    tables.write_rows(path, [], COLUMNS, replace(LINEAGE, schema_version=schemas.SCHEMA_VERSION + 1))
    return "newer msfser"


def _senseless_lineage(path: Path) -> str:
    pq.write_table(pa.table({"recording_id": ["a"]}).replace_schema_metadata({"msfser": json.dumps([1])}), path)
    return "damaged"


def _text(path: Path) -> str:
    path.write_text("recording_id,valence\na,1\n")
    return "not a Parquet file"


def _empty(path: Path) -> str:
    path.touch()
    return "empty file"


def _magic_only(path: Path) -> str:
    path.write_bytes(b"PAR1")
    return "damaged"


def _folder(path: Path) -> str:
    path.mkdir()
    return "without Parquet files"


def _nothing(path: Path) -> str:
    return "No such file"


@pytest.mark.parametrize("make", [_foreign, _newer, _senseless_lineage, _text, _empty, _magic_only, _folder, _nothing])
def test_what_is_no_table_of_ours_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "x.parquet"
    message = make(path)  # type: ignore[operator]
    for read in (tables.read, tables.iter_recordings):
        with pytest.raises(TableError, match=message) as caught:
            read(path, COLUMNS[:1])
        assert "x.parquet" in str(caught.value)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(TableError, match="not a regular file"):
        tables.read(tmp_path / "x.parquet", COLUMNS)


def test_rows_of_a_recording_must_lie_together(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    tables.write_rows(path, make_rows("a", 2) + make_rows("b", 2) + make_rows("a", 1), COLUMNS, LINEAGE)
    with pytest.raises(TableError, match="rows of 'a' are not adjacent"):
        list(tables.iter_recordings(path, COLUMNS))


def test_what_came_later_reads_as_null_from_an_older_table(tmp_path: Path) -> None:
    path, later = tmp_path / "x.parquet", Column("note", "string", "", nullable=True, since=schemas.SCHEMA_VERSION)
    rows = make_rows("a", 3)
    tables.write_rows(path, rows, COLUMNS, replace(LINEAGE, schema_version=schemas.SCHEMA_VERSION - 1))
    assert tables.read(path, [*COLUMNS, later])["note"].to_pylist() == [None] * 3
    [(_, back)] = tables.iter_recordings(path, [later, *COLUMNS])
    assert plain(back) == plain([{"note": None, **row} for row in rows])
    for of_now, missing in ((replace(LINEAGE), later), (replace(LINEAGE, schema_version=3), replace(later, nullable=False))):
        tables.write_rows(path, rows, COLUMNS, of_now)
        with pytest.raises(TableError, match="without the column 'note'"):
            tables.iter_recordings(path, [*COLUMNS, missing])

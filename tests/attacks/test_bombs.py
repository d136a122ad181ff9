"""A few kilobytes that claim to be gigabytes are refused before they are: in a process that has no gigabytes to give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.hostile import LENGTH, lineage, rows_of, write_sealed
from kit.program import Program
from msfser_cli.errors import LabelError, TableError
from msfser_cli.evaluation.labels import read_labels
from msfser_cli.runs.corpus import find
from msfser_cli.schemas import STAGES, columns_through
from msfser_cli.store import arrow, tables

MANY = np.zeros(1_000_000, np.int32)
LONG = "x" * 1_000_000
ONE_PAGE = {"dictionary_pagesize_limit": 1 << 28, "write_batch_size": 1}


def _stage(stage: str) -> pa.Table:
    columns = columns_through(stage)
    return arrow.to_table(rows_of(columns, ["a.wav"], 1), columns)


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place).with_type(column.type), column)


def rows(path: Path) -> str:
    """A hundred times the file's size in strings of one letter and in zeros."""
    write_sealed(path, _stage("transcribe").take(pa.array(MANY)), groups=3)
    return "transcribe"


def long_text(path: Path) -> str:
    """One text of a megabyte, that each of a thousand rows has."""
    text = pa.array([LONG] * 1000)
    write_sealed(path, _with(_stage("transcribe").take(pa.array(MANY[:1000])), "text", text), **ONE_PAGE)
    return "transcribe"


def long_words(path: Path) -> str:
    """One row whose words are one long word, thousands of times."""
    word = {"word": LONG[:100_000], "start": 0.0, "end": 0.0, "score": None, "aligned": True}
    table = _stage("transcribe")
    words = pa.array([[word] * 5000], table.schema.field("words").type)
    write_sealed(path, _with(table, "words", words), use_dictionary=True, **ONE_PAGE)
    return "transcribe"


def long_vectors(path: Path) -> str:
    """Vectors of a million numbers that are not there, which take as much as if they were."""
    table = _stage("embed")
    nothing = pa.nulls(1, pa.list_(pa.float32(), 1_000_000))
    write_sealed(path, _with(table, "acoustic_vector", nothing).take(pa.array(MANY[:100])), "embed")
    return "embed"


@pytest.mark.process
@pytest.mark.parametrize("make", [rows, long_text, long_words, long_vectors])
def test_a_sealed_table_is_refused_before_it_fills_the_memory(
    msfser: Program, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    stage = make(tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 200_000
    columns = columns_through(stage)
    for read in (tables.read, lambda p, c: list(tables.iter_recordings(p, c))):
        with pytest.raises(TableError, match=r"x\.parquet: decompresses to more than"):
            read(tmp_path / "x.parquet", columns)
    following = {"transcribe": "emphasize", "embed": "predict"}[stage]
    tables.write_rows(tmp_path / "x.recordings.parquet", [], STAGES["transcribe"][:1], lineage("recordings"))
    done = msfser(tmp_path, following, "x.parquet", "--out", "y.parquet", limits={"RLIMIT_AS": 8192 << 20})
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") == 1


def test_a_vector_of_usual_length_may_be_missing_everywhere(tmp_path: Path) -> None:
    table = _stage("embed")
    table = _with(table, "es_vector", pa.nulls(1, pa.list_(pa.float32(), LENGTH))).take(pa.array(MANY[:5000]))
    path = write_sealed(tmp_path / "x.parquet", table, "embed")
    assert len(tables.read(path, columns_through("embed"))) == 5000


def _foreign(path: Path, table: pa.Table, groups: int = 1, **options: object) -> None:
    with pq.ParquetWriter(path, table.schema, compression="zstd", **options) as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=len(table))


def _named(**columns: object) -> pa.Table:
    return pa.table(columns)


FOREIGN: dict[str, Callable[[Path], None]] = {
    "rows": lambda p: _foreign(p, _named(path=pa.array(["a.wav"]).take(pa.array(MANY)), valence=np.zeros(len(MANY))), 10),
    "text": lambda p: _foreign(p, _named(path=[LONG] * 400, valence=np.zeros(400)), **ONE_PAGE),
    "categories": lambda p: _foreign(
        p, _named(path=pa.DictionaryArray.from_arrays(pa.array(MANY), pa.array([LONG])), valence=np.zeros(len(MANY)))
    ),
    "one page": lambda p: _foreign(p, _named(path=["x" * 100_000_000], valence=[0.0]), use_dictionary=False),
    "many rows of nothing": lambda p: _foreign(p, _named(path=pa.nulls(len(MANY), pa.string()), valence=MANY), 30),
}


@pytest.mark.parametrize("bomb", FOREIGN)
def test_a_parquet_file_of_others_is_refused_before_it_fills_the_memory(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "x.parquet"
    FOREIGN[bomb](path)
    assert path.stat().st_size < 200_000
    for read in (lambda: find([str(path)]), lambda: read_labels(path)):
        with pytest.raises(TableError, match=r"x\.parquet: decompresses to more than"):
            read()


def test_columns_that_are_no_text_or_number_are_left_alone(tmp_path: Path) -> None:
    """Some of them bring polars down, some take gigabytes, and none says anything in a manifest or a label file."""
    deep: pa.DataType = pa.int32()
    for _ in range(12):
        deep = pa.list_(deep)
    odd = {
        "wide": pa.nulls(2, pa.decimal256(70, 2)), "vectors": pa.nulls(2, pa.list_(pa.float32(), 100_000_000)),
        "deep": pa.nulls(2, deep), "bytes": pa.array([b"\xff", b""]), "length": pa.nulls(2, pa.duration("s")),
        "map": pa.nulls(2, pa.map_(pa.string(), pa.int32())), "json": pa.array(["{}", "{}"], pa.json_()),
    }  # fmt: skip
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"path": ["a.wav", "b.wav"], "valence": [1.0, 7.0], **odd}), path)
    assert [r.recording_id for r in find([str(path)]).recordings] == ["a.wav", "b.wav"]
    assert read_labels(path).frame["valence"].to_list() == [1.0, 7.0]
    pq.write_table(pa.table({"path": ["a.wav", "b.wav"], "valence": odd["wide"]}), path)
    with pytest.raises(LabelError, match="'valence' holds lists or bytes"):
        read_labels(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_that_is_not_unicode_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    """Arrow does not look, and polars trusts it."""
    pq.write_table(pa.table({"path": pa.array(["a-b.wav", "c.wav"], kind), "valence": [1.0, 2.0]}), tmp_path / "x.parquet",
                   compression="none", write_statistics=False)  # fmt: skip
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content.replace(b"a-b.wav", b"a\xff\xfe.wav"))
    for read in (lambda: find([str(tmp_path / "x.parquet")]), lambda: read_labels(tmp_path / "x.parquet")):
        with pytest.raises(TableError, match=r"x\.parquet"):
            read()


def test_a_flipped_bit_in_a_file_of_others_is_noticed_where_its_pages_have_checksums(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"path": ["a.wav", "b.wav"]}), path, compression="none", use_dictionary=False,
                   write_statistics=False, write_page_checksum=True)  # fmt: skip
    assert len(find([str(path)]).recordings) == 2
    path.write_bytes(path.read_bytes().replace(b"a.wav", b"c.wav", 1))
    with pytest.raises(TableError, match=r"x\.parquet"):
        find([str(path)])


TEXTS: dict[str, bytes] = {
    "one line.csv": b"path,valence\n" + b"x" * 3_000_000,
    "one cell.csv": b'path,valence\n"' + b"x" * 3_000_000,
    "open quote.csv": b'path,valence\n"a\n' + b"b\n" * 1_000_000,
    "columns.csv": b",".join(b"c%d" % i for i in range(50_000)) + b"\n",
    "nothing.csv": b"", "zeros.csv": bytes(100_000), "lines.csv": b"\n" * 100_000, "ragged.csv": b"path,valence\na,1,2,3\n",
    "bytes.csv": b"path,valence\n\xff\xfe.wav,1\n", "half.csv": "path,valence\na.wav,1\n".encode("utf-16")[:-1],
    "twice.csv": b"path,PATH,valence\na,b,1\n",
    "deep.jsonl": b"[" * 200_000, "number.jsonl": b'{"path":' + b"9" * 100_000 + b"}\n", "array.jsonl": b"[1,2]\n",
    "one line.jsonl": b'{"path":"' + b"x" * 3_000_000 + b'"}\n', "bytes.jsonl": b'{"path":"\xff"}\n', "nothing.jsonl": b"",
    "deep.json": b"[" * 200_000, "number.json": b'[{"file":"a","valence":' + b"9" * 5000 + b"}]",
    "surrogate.json": b'[{"file":"\\ud800","valence":1}]', "scalar.json": b"5", "nothing.json": b"",
    "keys.json": b"[{" + b",".join(b'"k%d":1' % i for i in range(50_000)) + b"}]",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_senseless_manifest_or_label_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TEXTS[name])
    for read, suffixes in ((lambda p: find([str(p)]), (".csv", ".jsonl")), (read_labels, (".csv", ".json"))):
        if name.endswith(suffixes):
            with pytest.raises(TableError, match=name):
                read(tmp_path / name)


@pytest.mark.process
def test_a_refusal_is_one_line_of_bounded_length(msfser: Program, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b",".join(b"c%d\x1b[31m" % i for i in range(100_000)) + b"\n1\n")
    done = msfser(tmp_path, "evaluate", "--gold", "x.csv", limits={"RLIMIT_AS": 8192 << 20})
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 100_000

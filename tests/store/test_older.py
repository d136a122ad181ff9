"""Tables of older versions of msfser.

tests/golden/schema_3 was written before schema 4, with doubles as back ends: two recordings with words, a silent one, and one
that is no audio.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from msfser_cli import schemas
from msfser_cli.errors import TableError, UsageError
from msfser_cli.runs.source import source_of
from msfser_cli.store import arrow, tables
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.lineage import METADATA_KEY, Lineage
from msfser_cli.store.output import Output

TABLE = Path(__file__).parents[1] / "golden" / "schema_3" / "embedded.parquet"


def test_a_table_of_schema_3_is_read_with_what_came_later_as_null() -> None:
    lineage = tables.read_lineage(TABLE)
    assert (lineage.stage, lineage.schema_version) == ("embed", 3)
    table = tables.read(TABLE, schemas.columns_through("embed"))
    assert table["text"].to_pylist() == ["w0. w1. w2.", "w0. w1."]
    assert table.column("acoustic_vector").null_count == 0
    stored = pq.read_schema(TABLE).names
    for column in schemas.columns_through("embed"):
        assert column.name in stored or table.column(column.name).null_count == len(table)
    ledger = read_ledger(TABLE)
    assert [line["status"] for line in ledger.values()] == ["done", "done", "failed", "no_speech"]
    assert {line["note"] for line in ledger.values()} == {None}


def test_a_run_goes_on_from_a_table_of_schema_3() -> None:
    stages, source = source_of("predict", [str(TABLE)], None)
    assert stages == ("predict",)
    assert [(item.recording.recording_id, len(item.rows)) for item in source.items] == [
        ("page.mp3", 0), ("silent.wav", 0), ("a.wav", 1), ("b.wav", 1),
    ]  # fmt: skip


def test_a_table_of_schema_3_is_not_added_to_and_the_message_says_why(tmp_path: Path) -> None:
    for file in TABLE.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    old = tables.read_lineage(TABLE)
    now = Lineage(stage="embed", tool_version="1", fingerprint="1", settings=old.settings, models=old.models)
    why = rf"(?s)schema 3, now {schemas.SCHEMA_VERSION}: another version of msfser made it.*--redo"
    with pytest.raises(UsageError, match=why), Output.open(tmp_path / TABLE.name, schemas.columns_through("embed"), now):
        pass


def test_a_field_of_the_lineage_that_came_later_has_its_default(tmp_path: Path) -> None:
    columns = schemas.STAGES["transcribe"][:1]
    values = {"stage": "x", "tool_version": "0", "fingerprint": "f", "schema_version": 3}
    target = arrow.schema(columns, {}, {METADATA_KEY: json.dumps(values).encode()})
    tables.write(tmp_path / "x.parquet", [arrow.to_table([{"recording_id": "a"}], columns)], target)
    assert tables.read_lineage(tmp_path / "x.parquet") == Lineage(
        stage="x", tool_version="0", fingerprint="f", schema_version=3
    )  # fmt: skip
    tables.write(tmp_path / "y.parquet", [], target.with_metadata({METADATA_KEY: b'{"stage": "x", "schema_version": 3}'}))
    with pytest.raises(TableError, match="damaged"):
        tables.read_lineage(tmp_path / "y.parquet")

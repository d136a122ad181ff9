from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store_rows import COLUMNS, LINEAGE, make_rows
from msfser_cli.errors import TableError
from msfser_cli.store import tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A good table of three recordings."""
    path = tmp_path / "x.parquet"
    tables.write_rows(path, [row for name in "abc" for row in make_rows(name, 40)], COLUMNS, LINEAGE)
    return path


def test_a_cut_table_is_never_read(table: Path) -> None:
    content = table.read_bytes()
    for cut in [*range(0, len(content), 97), len(content) - 1]:
        table.write_bytes(content[:cut])
        with pytest.raises(TableError):
            tables.read(table, COLUMNS)


def test_a_flipped_bit_anywhere_is_noticed(table: Path) -> None:
    content = table.read_bytes()
    chance = random.Random(0)
    for place in [chance.randrange(len(content)) for _ in range(500)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        table.write_bytes(damaged)
        for read in (tables.read, tables.iter_recordings):
            with pytest.raises(TableError):
                read(table, COLUMNS)
    table.write_bytes(content)
    assert len(tables.read(table, COLUMNS)) == 120


def test_a_table_that_another_tool_changed_is_noticed(table: Path) -> None:
    pq.write_table(pq.read_table(table, columns=["recording_id", "start"]).slice(0, 50), table)
    with pytest.raises(TableError, match="changed by another tool"):
        tables.read(table, COLUMNS[:1])


def test_other_readers_can_verify_the_pages(table: Path) -> None:
    content = bytearray(table.read_bytes())
    column = pq.ParquetFile(table).metadata.row_group(0).column(2)
    assert column.path_in_schema == "start"
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    table.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(table, columns=["start"], page_checksum_verification=True)


@given(st.binary(max_size=400))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_of_any_kind_are_refused(new_folder: Callable[[], Path], content: bytes) -> None:
    path = new_folder() / "x.parquet"
    for whole in (content, b"PAR1" + content, b"PAR1" + content + b"PAR1"):
        path.write_bytes(whole)
        with pytest.raises(TableError):
            tables.read(path, COLUMNS)

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store_rows import COLUMNS, LINEAGE, make_rows, names_in, plain
from msfser_cli.store import merge
from msfser_cli.store.arrow import schema, to_rows, to_table
from msfser_cli.store.lineage import metadata
from msfser_cli.store.merge import Run, merged

TARGET = schema(COLUMNS, {"gs_vector": 3}, metadata(LINEAGE))


class Opened:
    """Runs of recordings in memory. most: the most that were open at a time."""

    def __init__(self, runs: list[list[str]]) -> None:
        self.now = self.most = 0
        self.runs = [Run(ids[0], ids[-1], partial(self._read, ids)) for ids in runs]

    def _read(self, ids: list[str]) -> Iterator[tuple[str, pa.Table]]:
        self.now += 1
        self.most = max(self.most, self.now)
        for recording_id in ids:
            yield recording_id, to_table(make_rows(recording_id, 2), COLUMNS)
        self.now -= 1


@given(st.data(), st.integers(1, 40))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_recordings_come_in_order_with_few_runs_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, count: int
) -> None:
    monkeypatch.setattr(merge, "MOST_OPEN", 3)
    place = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    names = [f"r{number:02d}" for number in range(count)]
    runs = [[name for name, of in zip(names, place, strict=True) if of == run] for run in range(10)]
    opened = Opened([ids for ids in runs if ids])
    found = list(merged(opened.runs, COLUMNS, TARGET, tmp_path / "x.parquet"))
    assert [name for name, _ in found] == names
    assert all(plain(to_rows(rows)) == plain(make_rows(name, 2)) for name, rows in found)
    assert opened.most <= 3
    assert names_in(tmp_path) == set()


def test_runs_one_after_another_are_read_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MOST_OPEN", 2)
    names = [f"r{number:02d}" for number in range(40)]
    opened = Opened([names[start : start + 2] for start in range(0, 40, 2)])
    random.Random(0).shuffle(opened.runs)
    for name, _ in merged(opened.runs, COLUMNS, TARGET, tmp_path / "no such folder" / "x.parquet"):
        assert name == names.pop(0)
    assert opened.most == 1


def test_temporary_files_are_removed_when_they_are_merged_again_and_on_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "MOST_OPEN", 2)
    opened = Opened([[f"a{number}", f"b{number}"] for number in range(8)])
    recordings = merged(opened.runs, COLUMNS, TARGET, tmp_path / "x.parquet")
    assert [name for name, _ in itertools.islice(recordings, 3)] == ["a0", "a1", "a2"]
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2
    recordings.close()  # type: ignore[attr-defined]
    assert names_in(tmp_path) == set()

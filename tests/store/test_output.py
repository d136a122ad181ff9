from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store_rows import COLUMNS, LINEAGE, expected, ledger_of, make_line, make_rows, names_in, plain, table_of, told
from msfser_cli.errors import OutputHeldError, TableError, UsageError
from msfser_cli.schemas import LedgerLine
from msfser_cli.store import arrow, tables
from msfser_cli.store import layout as layout_module
from msfser_cli.store import merge as merge_module
from msfser_cli.store import output as output_module
from msfser_cli.store.ledger import ledger_path, read_ledger
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.output import Output

OTHER = replace(
    LINEAGE,
    fingerprint="second",
    settings={"transcribe": {"model": "large"}, "embed": {"text_model": "minilm"}},
    models={"large": "r1"},
)


@pytest.fixture(params=["x.parquet", "x/"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An output in either layout."""
    return f"{tmp_path}/{request.param}"


def add(output: Output, recording_id: str, count: int, seed: int = 0, **more: Any) -> None:
    rows = make_rows(recording_id, count, seed)
    output.add(make_line(recording_id, rows, seed, **more), rows)


def run(out: str, recordings: dict[str, tuple[int, int]], lineage: Lineage = LINEAGE, **options: Any) -> dict[str, int]:
    """One whole run."""
    with Output.open(out, COLUMNS, lineage, **options) as output:
        for recording_id, (count, seed) in recordings.items():
            if output.done_key(recording_id) != f"key{seed}":
                add(output, recording_id, count, seed)
        return output.publish()


def stamps(out: str) -> dict[str, tuple[int, int]]:
    """The identity of every file beside and below the output."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in Path(out).parent.rglob("*") if p.is_file()}


def test_a_run_is_published(out: str, tmp_path: Path) -> None:
    recordings = {"b/ü.wav": (3, 0), "a": (2, 0), "silent": (0, 0), "z": (30, 0)}
    counts = run(out, recordings)
    assert counts == {"recordings": 4, "done": 3, "no_speech": 1, "failed": 0, "incomplete": 0, "utterances": 35}
    assert table_of(out) == expected(recordings)
    assert list(table_of(out)) == ["a", "b/ü.wav", "z"]
    assert list(read_ledger(out)) == ["a", "b/ü.wav", "silent", "z"]
    assert read_ledger(out)["silent"]["status"] == "no_speech"
    assert ledger_path(out) == tmp_path / "x.recordings.parquet"
    assert tables.read_lineage(Path(out)) == LINEAGE
    assert names_in(tmp_path) - {"x/part-000000.parquet"} == {Path(out).name, "x.recordings.parquet"}


def test_polars_reads_both_files(out: str, tmp_path: Path) -> None:
    run(out, {"a": (2, 0), "b": (1, 0)})
    run(out, {"c": (2, 0), "d": (0, 0)})
    frame = pl.read_parquet(out)
    assert frame["recording_id"].to_list() == ["a", "a", "b", "c", "c"]
    assert frame["gs_vector"].dtype == pl.Array(pl.Float32, 3)
    assert pl.read_parquet(tmp_path / "x.recordings.parquet")["recording_id"].to_list() == ["a", "b", "c", "d"]


def test_the_same_run_again_touches_nothing(out: str) -> None:
    first = run(out, {"a": (2, 0), "b": (0, 0)})
    before = stamps(out)
    assert run(out, {"a": (2, 0), "b": (0, 0)}) == first
    assert run(out, {}) == first
    assert stamps(out) == before


def test_what_is_dropped_is_gone_and_may_come_back(out: str) -> None:
    recordings = {"a": (2, 0), "b": (3, 0), "c": (0, 0), "d": (1, 0)}
    run(out, recordings)
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.recordings == recordings.keys()
        output.drop(["b", "c", "never there"])
        assert output.recordings == {"a", "d"}
        assert output.done_key("b") != "key0"
        assert output.publish()["recordings"] == 2
    assert table_of(out) == expected({"a": (2, 0), "d": (1, 0)})
    assert list(read_ledger(out)) == ["a", "d"]
    before = stamps(out)
    run(out, {"a": (2, 0), "d": (1, 0)})
    assert stamps(out) == before
    with Output.open(out, COLUMNS, LINEAGE) as output:
        output.drop(["a"])
        add(output, "a", 4, 1)
        add(output, "b", 3)
        output.publish()
    assert table_of(out) == expected({"a": (4, 1), "b": (3, 0), "d": (1, 0)})


def test_all_may_be_dropped(out: str) -> None:
    run(out, {"a": (2, 0), "b": (0, 0)})
    with Output.open(out, COLUMNS, LINEAGE) as output:
        output.drop(output.recordings)
        assert output.publish() == dict.fromkeys(("recordings", "done", "no_speech", "failed", "incomplete", "utterances"), 0)
    assert table_of(out) == {}
    assert run(out, {"a": (2, 0)})["utterances"] == 2


def test_what_is_in_hand_can_be_dropped(out: str) -> None:
    """By the run that made it, and by the one that goes on after a kill."""
    with Output.open(out, COLUMNS, LINEAGE) as output:
        for name in "abc":
            add(output, name, 2)
        output.drop(["a"])
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.recordings == {"b", "c"}
        output.drop(["b"])
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.recordings == {"c"}
        output.publish()
    assert table_of(out) == expected({"c": (2, 0)})
    assert list(read_ledger(out)) == ["c"]


def test_what_is_done_is_known(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
        add(output, "b", 0, status="failed", reason="empty", detail="the file has no bytes")
        assert output.done_key("a") == "key0"
        output.publish()
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.done_key("a") == "key0"
        assert output.done_key("a") != "key1"
        assert output.done_key("c") != "key0"
        assert output.done_key("b") == "key0"
    with Output.open(out, COLUMNS, LINEAGE, retry_failed=True) as output:
        assert output.done_key("a") == "key0"
        assert output.done_key("b") != "key0"


def test_work_that_was_not_published_is_not_lost(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
        output.commit()
        add(output, "b", 1)
    assert not Path(out).exists()
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.done_key("a") == "key0"
        assert output.done_key("b") == "key0"
        output.publish()
    assert table_of(out) == expected({"a": (2, 0), "b": (1, 0)})


def test_what_was_added_before_an_error_is_not_lost(out: str) -> None:
    def fail() -> None:
        with Output.open(out, COLUMNS, LINEAGE) as output:
            add(output, "a", 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.done_key("a") == "key0"


def test_a_changed_recording_replaces_its_own_rows_and_line(out: str) -> None:
    run(out, {"a": (2, 0), "b": (3, 0), "c": (4, 0), "d": (1, 0)})
    run(out, {"b": (5, 1), "c": (0, 1)})
    now = {"a": (2, 0), "b": (5, 1), "c": (0, 1), "d": (1, 0)}
    assert table_of(out) == expected(now)
    assert {name: line["input_key"] for name, line in read_ledger(out).items()} == {n: f"key{s}" for n, (_, s) in now.items()}


def test_a_folder_rewrites_only_the_part_that_changed(tmp_path: Path) -> None:
    out = f"{tmp_path}/x/"
    for recordings in ({"a": (2, 0), "b": (3, 0)}, {"c": (4, 0)}, {"d": (1, 0)}):
        run(out, recordings)
    parts = [tmp_path / "x" / f"part-00000{i}.parquet" for i in range(3)]
    before = [part.stat().st_ino for part in parts]
    run(out, {"c": (5, 1), "e": (1, 0)})
    after = [part.stat().st_ino for part in parts]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert (tmp_path / "x" / "part-000003.parquet").exists()
    assert table_of(out) == {name: plain(make_rows(name, n, s)) for name, n, s in
                             [("a", 2, 0), ("b", 3, 0), ("c", 5, 1), ("d", 1, 0), ("e", 1, 0)]}  # fmt: skip


def test_a_folder_does_not_grow_by_recordings_without_rows(tmp_path: Path) -> None:
    out = f"{tmp_path}/x/"
    run(out, {"a": (2, 0)})
    for seed in range(3):
        counts = run(out, {"b": (0, seed)})
    assert counts["no_speech"] == 1
    assert names_in(tmp_path / "x") == {"part-000000.parquet"}


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 3), st.integers(0, 3)), max_size=6),
            st.sampled_from(["publish", "commit", "leave"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["x.parquet", "x/"]),
)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_ends_in_the_last_word_on_each_recording(
    new_folder: Callable[[], Path], history: list[tuple[list[tuple[str, int, int]], str]], layout: str
) -> None:
    out = f"{new_folder()}/{layout}"
    last: dict[str, tuple[int, int]] = {}
    for additions, then in history:
        with Output.open(out, COLUMNS, LINEAGE) as output:
            for name, count, seed in additions:
                add(output, name, count, seed)
                last[name] = count, seed
                if then == "commit":
                    output.commit()
            if then == "publish":
                output.publish()
    counts = run(out, {})
    assert table_of(out) == expected(last)
    assert ledger_of(out) == {name: told(make_line(name, make_rows(name, n, s), s)) for name, (n, s) in last.items()}
    assert counts["utterances"] == sum(count for count, _ in last.values())


def test_the_result_does_not_depend_on_order_or_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = {f"r{i:02d}": (i % 5, i) for i in range(30)}
    run(f"{tmp_path}/one.parquet", recordings)
    monkeypatch.setattr(output_module, "PART_RECORDINGS", 3)
    run(f"{tmp_path}/two.parquet", dict(reversed(recordings.items())))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def contents(out: str) -> dict[str, bytes]:
    """The files of the table and its ledger, byte for byte."""
    ledger = ledger_path(out)
    return {file.name: file.read_bytes() for file in [*tables.files(Path(out)), ledger]}


@given(st.permutations(range(24)), st.integers(1, 5), st.integers(2, 5), st.sampled_from(["x.parquet", "x/"]))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_bytes_do_not_depend_on_the_order_of_additions(
    new_folder: Callable[[], Path], order: list[int], of_part: int, most_open: int, layout: str
) -> None:
    recordings = {f"r{i:02d}": (i % 5, i) for i in range(24)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_module, "FILE_BYTES", 1500)
        run(one := f"{new_folder()}/{layout}", recordings)
        patch.setattr(output_module, "PART_RECORDINGS", of_part)
        patch.setattr(merge_module, "MOST_OPEN", most_open)
        run(two := f"{new_folder()}/{layout}", {f"r{i:02d}": recordings[f"r{i:02d}"] for i in order})
    assert contents(one) == contents(two)
    assert len(contents(one)) > 3 or layout == "x.parquet"
    assert names_in(Path(one).parent) == names_in(Path(two).parent)


def test_hundreds_of_parts_in_no_order_take_few_open_files(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "PART_RECORDINGS", 2)
    # Each part has a recording from the first half and one from the second. So all parts overlap.
    names = [name for i in range(300) for name in (f"a{i * 7 % 300:03d}", f"b{i * 11 % 300:03d}")]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    with Output.open(out, COLUMNS, LINEAGE) as output:
        for name in names:
            add(output, name, 1)
        output.commit()
        assert len(list((tmp_path / f".{Path(out).name}.parts").iterdir())) == 300
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + merge_module.MOST_OPEN + 16, most))
        try:
            assert output.publish()["utterances"] == 600
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert table_of(out) == expected(dict.fromkeys(names, (1, 0)))
    assert list(table_of(out)) == sorted(names)


def test_the_files_of_a_folder_are_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "FILE_BYTES", 3000)
    out = f"{tmp_path}/x/"
    run(out, {f"r{i:02d}": (90 if i == 9 else i % 5, i) for i in reversed(range(40))})
    before = contents(out)
    files = tables.files(Path(out))
    assert [file.name for file in files] == [f"part-{number:06d}.parquet" for number in range(len(files))]
    inside = [tables.recording_ids(file) for file in files]
    assert [recording_id for ids in inside for recording_id in ids] == [f"r{i:02d}" for i in range(40) if i % 5]
    large = [ids for file, ids in zip(files, inside, strict=True) if arrow.size(tables.read(file, COLUMNS)) > 3000]
    assert large == [["r09"]]
    assert len(files) > 4

    run(out, {f"n{i:02d}": (4, i) for i in range(20)})  # new recordings go into new files, also of a bounded size
    after = contents(out)
    assert {name: after[name] for name in before if name.startswith("part-")}.items() <= before.items()
    new = [Path(out, name) for name in sorted(after.keys() - before.keys())]
    assert len(new) > 2
    assert all(arrow.size(tables.read(file, COLUMNS)) <= 3000 for file in new)
    assert [recording_id for file in new for recording_id in tables.recording_ids(file)] == [f"n{i:02d}" for i in range(20)]


@pytest.mark.parametrize(("limit", "value"), [("PART_RECORDINGS", 4), ("PART_ROWS", 8), ("PART_SECONDS", 0.0)])
def test_parts_are_committed_by_number_rows_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(output_module, limit, value)
    with Output.open(tmp_path / "x.parquet", COLUMNS, LINEAGE) as output:
        for i in range(8):
            add(output, f"r{i}", 2)
        parts = len(list((tmp_path / ".x.parquet.parts").iterdir()))
        assert parts == (8 if value == 0 else 2)


def test_no_rows_at_all_is_a_table_that_grows(out: str) -> None:
    assert run(out, {})["recordings"] == 0
    assert pl.read_parquet(out).columns == [c.name for c in COLUMNS]
    assert run(out, {"a": (0, 0)})["no_speech"] == 1
    assert len(pl.read_parquet(out)) == 0
    run(out, {"b": (1, 0)})
    assert table_of(out) == expected({"b": (1, 0)})


def test_a_vectors_length_may_be_learnt_late(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        rows = [row | {"gs_vector": None} for row in make_rows("a", 2)]
        output.add(make_line("a", rows), rows)
        output.publish()
    assert pl.read_parquet(out)["gs_vector"].null_count() == 2
    run(out, {"b": (2, 0)})
    frame = pl.read_parquet(out)
    assert frame["gs_vector"].dtype == pl.Array(pl.Float32, 3)
    assert frame["gs_vector"].null_count() == 2


def test_a_vector_of_another_length_is_refused(out: str) -> None:
    run(out, {"a": (2, 0)})
    with Output.open(out, COLUMNS, LINEAGE) as output:
        rows = make_rows("b", 2, length=4)
        with pytest.raises(ValueError, match="'gs_vector' holds vectors of 3 numbers, not 4"):
            output.add(make_line("b", rows), rows)
        assert output.done_key("b") != "key0"
        output.publish()
    assert table_of(out) == expected({"a": (2, 0)})


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        (make_line("a", make_rows("a", 2)), make_rows("a", 1)),
        (make_line("a", make_rows("a", 2)), make_rows("b", 2)),
        (LedgerLine("a", input_key=None), []),  # type: ignore[arg-type]
        (make_line("a", make_rows("a", 1)), [{"recording_id": "a"}]),
    ],
)
def test_a_line_that_does_not_fit_its_rows_is_a_bug_and_changes_nothing(out: str, line: LedgerLine, rows: list[Any]) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        with pytest.raises(ValueError, match=r"a: its ledger|column"):
            output.add(line, rows)
        assert output.publish()["recordings"] == 0


def test_a_detail_may_quote_a_name_that_is_not_unicode(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 0, status="failed", reason="missing", detail="no \udcff.wav")
        output.publish()
    assert read_ledger(out)["a"]["detail"] == "no \\udcff.wav"


def test_other_settings_are_refused_with_the_difference(out: str) -> None:
    run(out, {"a": (1, 0)})
    before = stamps(out)
    with pytest.raises(UsageError) as caught:
        run(out, {"a": (1, 1)}, OTHER)
    message = str(caught.value)
    assert "transcribe.model: base, now large" in message
    assert "model base: sha256:00, now not set" in message
    assert "minilm" not in message
    assert "--redo" in message
    assert stamps(out) == before


def test_other_columns_are_refused(out: str) -> None:
    run(out, {"a": (1, 0)})
    with pytest.raises(UsageError, match="made with the columns gs_vector, es_vector"), Output.open(out, COLUMNS[:-2], LINEAGE):
        pass


def test_work_in_hand_with_other_settings_is_refused(out: str, tmp_path: Path) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 1)
    with pytest.raises(UsageError, match=r"\.parts/00000001.parquet: made with other settings"):
        run(out, {}, OTHER)
    assert run(out, {"b": (1, 0)}, OTHER, redo=True)["recordings"] == 1
    assert table_of(out) == expected({"b": (1, 0)})


def test_redo_starts_over_and_replaces_at_publish(out: str, tmp_path: Path) -> None:
    run(out, {"a": (1, 0), "b": (2, 0)})
    run(out, {"c": (1, 0)})
    with Output.open(out, COLUMNS, OTHER, redo=True) as output:
        assert output.done_key("a") != "key0"
        add(output, "a", 3, 1)
        output.commit()
        assert table_of(out) == expected({"a": (1, 0), "b": (2, 0), "c": (1, 0)})
        output.publish()
        assert output.done_key("a") == "key1"
    assert table_of(out) == expected({"a": (3, 1)})
    assert list(read_ledger(out)) == ["a"]
    assert tables.read_lineage(Path(out)) == OTHER
    run(out, {"a": (3, 1), "d": (1, 0)}, OTHER)
    assert table_of(out) == expected({"a": (3, 1), "d": (1, 0)})


def test_an_interrupted_redo_goes_on(out: str) -> None:
    run(out, {"a": (1, 0)})
    with Output.open(out, COLUMNS, LINEAGE, redo=True) as output:
        add(output, "a", 2, 1)
    with Output.open(out, COLUMNS, LINEAGE, redo=True) as output:
        assert output.done_key("a") == "key1"
        output.publish()
    assert table_of(out) == expected({"a": (2, 1)})
    with Output.open(out, COLUMNS, LINEAGE, redo=True) as output:
        assert output.done_key("a") != "key1"


def test_asking_with_redo_leaves_the_work_in_hand_alone(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
    with Output.open(out, COLUMNS, OTHER, redo=True) as output:
        assert output.done_key("a") != "key0"
    with Output.open(out, COLUMNS, LINEAGE) as output:
        assert output.done_key("a") == "key0"


def _foreign_file(out: Path) -> None:
    out.write_text("a novel")


def _foreign_parquet(out: Path) -> None:
    pq.write_table(pa.table({"recording_id": ["a"]}), out)


def _other_stage(out: Path) -> None:
    tables.write_rows(out, [], COLUMNS, replace(LINEAGE, stage="predict"))


def _ledger_as_table(out: Path) -> None:
    run(f"{out.parent}/y.parquet", {"a": (1, 0)})
    shutil.copy(out.parent / "y.recordings.parquet", out)


def _foreign_ledger(out: Path) -> None:
    pq.write_table(pa.table({"recording_id": ["a"]}), out.with_name("x.recordings.parquet"))


def _ledger_of_a_folder(out: Path) -> None:
    run(f"{out.parent}/x/", {"a": (1, 0)})


def _folder_of_audio(out: Path) -> None:
    out.mkdir()
    (out / "a.wav").touch()


def _folder_with_a_foreign_part(out: Path) -> None:
    out.mkdir()
    pq.write_table(pa.table({"recording_id": ["a"]}), out / "part-000000.parquet")


def _pipe(out: Path) -> None:
    os.mkfifo(out)


@pytest.mark.parametrize(
    "make",
    [
        _foreign_file,
        _foreign_parquet,
        _other_stage,
        _ledger_as_table,
        _foreign_ledger,
        _ledger_of_a_folder,
        _folder_of_audio,
        _folder_with_a_foreign_part,
        _pipe,
    ],
)
@pytest.mark.parametrize("redo", [False, True])
def test_what_is_not_our_output_is_never_overwritten(tmp_path: Path, make: Any, redo: bool) -> None:
    out = tmp_path / "x.parquet"
    make(out)
    before = stamps(str(out))
    with pytest.raises(UsageError, match="--out"):
        run(str(out), {"b": (1, 0)}, redo=redo)
    assert stamps(str(out)) == before


@pytest.mark.parametrize("out", ["", ".", "..", "/", "y.recordings.parquet", "x" * 230, "x" * 230 + "/"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    (tmp_path / "other.txt").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder" if out == ".." else tmp_path)
    with pytest.raises(UsageError):
        run(out, {})
    assert names_in(tmp_path) == {"other.txt", "folder"}


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    for out in ("x/", "x/y.parquet"):
        with pytest.raises(UsageError):
            run(f"{tmp_path}/{out}", {})
    assert (tmp_path / "x").read_text() == "a file"


def test_folders_above_are_made(tmp_path: Path) -> None:
    run(f"{tmp_path}/deep/er/x.parquet", {"a": (1, 0)})
    assert table_of(f"{tmp_path}/deep/er/x.parquet") == expected({"a": (1, 0)})


def test_a_tilde_is_a_name_like_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        run("~/x.parquet", {"a": (2, seed)})
    assert names_in(tmp_path / "~") == {"x.parquet", "x.recordings.parquet"}


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link = tmp_path / "x.parquet"
    link.symlink_to(tmp_path / "store" / "y.parquet")
    run(str(link), {"a": (1, 0)})
    assert link.is_symlink()
    assert ledger_path(link) == tmp_path / "store" / "y.recordings.parquet"
    assert table_of(tmp_path / "store" / "y.parquet") == expected({"a": (1, 0)})


def test_one_writer_at_a_time(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE), pytest.raises(OutputHeldError), Output.open(out, COLUMNS, LINEAGE):
        pass
    run(out, {"a": (1, 0)})


def test_a_table_without_its_ledger_is_refused(out: str) -> None:
    run(out, {"a": (2, 0)})
    ledger_path(out).unlink()
    with pytest.raises(UsageError, match=r"2 rows and its ledger x\.recordings\.parquet 0"):
        run(out, {"b": (1, 0)})


@pytest.mark.parametrize("older", ["table", "ledger"])
def test_a_table_beside_another_run_s_ledger_is_refused(out: str, tmp_path: Path, older: str) -> None:
    run(out, {"a": (2, 0), "b": (1, 0)})
    stale = Path(out) if older == "table" else ledger_path(out)
    kept = Path(shutil.copytree(stale, tmp_path / "kept") if stale.is_dir() else shutil.copy(stale, tmp_path / "kept"))
    run(out, {"a": (2, 1)})  # as many rows as before
    shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    kept.rename(stale)
    with pytest.raises(UsageError, match="they do not belong together"):
        run(out, {"a": (2, 1)})
    run(out, {"a": (2, 1), "b": (1, 0)}, redo=True)
    assert table_of(out) == expected({"a": (2, 1), "b": (1, 0)})


def test_work_in_hand_that_someone_removes_is_missed(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
        output.commit()
        (parts,) = Path(out).parent.glob(".*.parts")
        shutil.rmtree(parts)
        add(output, "b", 1)
        with pytest.raises(TableError, match="removed unpublished work"):
            output.publish()
    run(out, {"a": (2, 0), "b": (1, 0)})
    assert table_of(out) == expected({"a": (2, 0), "b": (1, 0)})


def test_a_ledger_without_its_table_counts_for_nothing(out: str) -> None:
    run(out, {"a": (2, 0), "b": (1, 0)})
    path = Path(out)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(out, {"a": (2, 0)})["recordings"] == 1
    assert table_of(out) == expected({"a": (2, 0)})


def test_damage_to_work_in_hand_is_noticed(out: str, tmp_path: Path) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
    (part,) = tmp_path.glob(".*.parts/*")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(TableError, match="remove it; its recordings will be done again"):
        run(out, {})
    part.unlink()
    run(out, {"a": (2, 0)})
    assert table_of(out) == expected({"a": (2, 0)})


def test_damage_to_the_table_is_noticed_when_it_is_merged(out: str) -> None:
    run(out, {"a": (2, 0)})
    (file,) = tables.files(Path(out))
    content = bytearray(file.read_bytes())
    content[30] ^= 1
    file.write_bytes(content)
    with pytest.raises(TableError, match="damaged"):
        run(out, {"b": (1, 0)})
    assert file.read_bytes() == content


def test_publishing_twice_in_one_run(out: str) -> None:
    with Output.open(out, COLUMNS, LINEAGE) as output:
        add(output, "a", 2)
        output.publish()
        add(output, "b", 1)
        add(output, "a", 1, 1)
        assert output.publish()["utterances"] == 2
    assert table_of(out) == expected({"a": (1, 1), "b": (1, 0)})


def test_large_recordings_pass_through(out: str) -> None:
    rng = np.random.default_rng(0)
    rows = [row | {"gs_vector": rng.standard_normal(64, dtype=np.float32)} for row in make_rows("b", 4200)]
    run(out, {})
    with Output.open(out, COLUMNS, LINEAGE) as output:
        output.add(make_line("b", rows), rows)
        rows_a = [row | {"gs_vector": None} for row in make_rows("a", 3)]
        output.add(make_line("a", rows_a), rows_a)
        output.publish()
    assert table_of(out) == {"a": plain(rows_a), "b": plain(rows)}

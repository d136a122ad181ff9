"""A damaged table is refused, never read as data: every kind of file with a seal, through every way that reads it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.hostile import KINDS, damage, lines_of, rows_of, write_kind, write_output, write_stage
from kit.program import Program
from msfser_cli.errors import TableError, UsageError
from msfser_cli.schemas import RECORDINGS, STAGE_NAMES, Column, columns_through
from msfser_cli.store import tables
from msfser_cli.store.ledger import ledger_path, read_ledger
from msfser_cli.store.lineage import Lineage

Trials = Callable[[str, int], Iterator[int]]


def ways_to_read(file: Path, columns: tuple[Column, ...]) -> list[Callable[[], object]]:
    ways: list[Callable[[], object]] = [lambda: tables.read(file, columns), lambda: tables.read_lineage(file)]
    if columns is RECORDINGS:
        return [*ways, lambda: read_ledger(file.with_name("x.parquet"))]
    whole = file.parent if file.parent.name == "x" else file
    return [*ways, lambda: list(tables.slices(whole, columns)), lambda: list(tables.iter_recordings(whole, columns)),
            lambda: tables.recording_ids(whole)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_by_whatever_reads_it(tmp_path: Path, trials: Trials, kind: str) -> None:
    file, columns = write_kind(tmp_path, kind)
    content, ways = file.read_bytes(), ways_to_read(file, columns)
    for read in ways:
        read()
    for seed in trials("damage to a table", 100):
        file.write_bytes(damage(content, random.Random(f"{kind} {seed}")))
        for read in ways:
            with pytest.raises(TableError, match=file.name):
                read()


def test_every_bit_of_a_table_matters(tmp_path: Path) -> None:
    """Page headers and footer included, of which Parquet's own checksums hold nothing."""
    columns = columns_through("transcribe")[:4]
    file = tmp_path / "x.parquet"
    tables.write_rows(file, rows_of(columns, ["a.wav"]), columns, Lineage(stage="x", tool_version="0", fingerprint="f"))
    content = bytearray(file.read_bytes())
    with file.open("r+b", buffering=0) as writable:
        for bit in range(len(content) * 8):
            place = bit // 8
            writable.seek(place)
            writable.write(bytes([content[place] ^ 1 << bit % 8]))
            with pytest.raises(TableError):
                tables.open_file(file)
            writable.seek(place)
            writable.write(content[place : place + 1])
    assert len(tables.read(file, columns)) == 3


@pytest.mark.parametrize("victim", ["table", "ledger", "part in hand", "part of a folder"])
def test_an_output_with_a_damaged_file_is_refused_or_comes_out_right(tmp_path: Path, trials: Trials, victim: str) -> None:
    """Refused, then nothing was written over; or the damaged file was no longer needed."""
    before, now = ["a.wav", "b.wav", "c.wav"], ["b.wav", "d.wav"]
    name = "x/" if victim == "part of a folder" else "x.parquet"

    def begun(folder: Path) -> str:
        out = f"{folder}/{name}"
        write_output(out, before)
        if victim == "part in hand":
            write_output(out, ["b.wav"], publish=False, seed="new")
        return out

    def content(out: str) -> Any:
        return list(map(str, tables.iter_recordings(Path(out), columns_through("transcribe")))), read_ledger(out)

    template, good = tmp_path / "template", tmp_path / "good"
    template.mkdir()
    begun(template)
    shutil.copytree(template, good)
    write_output(f"{good}/{name}", now, seed="new")
    expected = content(f"{good}/{name}")
    refused = 0
    for seed in trials("damage to an output", 25):
        folder = tmp_path / "trial"
        shutil.copytree(template, folder)
        out = f"{folder}/{name}"
        file = {"ledger": ledger_path(out), "part in hand": folder / ".x.parquet.parts" / "00000001.parquet",
                "part of a folder": folder / "x" / "part-000000.parquet"}.get(victim, folder / "x.parquet")
        torn = damage(file.read_bytes(), random.Random(f"{victim} {seed}"))
        file.write_bytes(torn)
        try:
            write_output(out, now, seed="new")
        except (TableError, UsageError):
            refused += 1
            assert file.read_bytes() == torn
        else:
            assert content(out) == expected
        shutil.rmtree(folder)
    assert refused


COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evaluate": ("predict", ("x.parquet", "--gold", "labels.csv", "--resamples", "100")),
    "train": ("embed", ("x.parquet", "--gold", "labels.csv", "--out", "head", "--epochs", "1")),
    "emphasize": ("transcribe", ("x.parquet", "--out", "y.parquet")),
    "predict": ("embed", ("x.parquet", "--out", "y.parquet")),
}


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "victim"), [*((c, "table") for c in COMMANDS), *((c, "ledger") for c in ("emphasize", "predict"))]
)
def test_a_command_says_in_a_sentence_that_its_input_is_damaged(
    msfser: Program, tmp_path: Path, trials: Trials, command: str, victim: str
) -> None:
    stage, arguments = COMMANDS[command]
    file = write_stage(tmp_path / "x.parquet", stage)
    (tmp_path / "labels.csv").write_text("file,valence,speaker\na.wav,0.1,s\nb.wav,0.5,t\nc.wav,0.9,u\n")
    before = {p.name for p in tmp_path.iterdir()}
    file = ledger_path(file) if victim == "ledger" else file
    content = file.read_bytes()
    for seed in trials("damage, by the command line", 1):
        file.write_bytes(damage(content, random.Random(f"{command} {victim} {seed}")))
        done = msfser(tmp_path, command, *arguments)
        assert done.returncode == 4, done.stderr
        assert done.stderr.count("\n") == 1
        assert file.name in done.stderr
        assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("stage", STAGE_NAMES[:-1])
def test_a_table_and_a_ledger_that_do_not_belong_together_are_refused(tmp_path: Path, stage: str) -> None:
    """Whichever of the two is from elsewhere: rows without a line, lines without their rows, and another number of rows."""
    from msfser_cli.runs.source import source_of

    command = STAGE_NAMES[STAGE_NAMES.index(stage) + 1]
    path = write_stage(tmp_path / "x.parquet", stage)
    assert len(list(source_of(command, [str(path)], None)[1].items)) == 3
    lineage = tables.read_lineage(ledger_path(path))
    for lines in (lines_of(["a.wav", "b.wav"]), lines_of(["a.wav", "b.wav", "c.wav", "d.wav"]),
                  lines_of(["a.wav", "b.wav", "c.wav"], utterances=2)):
        tables.write_rows(ledger_path(path), lines, RECORDINGS, lineage)
        with pytest.raises(TableError, match="keep the two files together"):
            list(source_of(command, [str(path)], None)[1].items)

"""recipes/ablation on tables whose truth is known: arousal is in the voice, valence in the transcript, dominance in both."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from kit.training_tables import corpus
from msfser_cli.schemas import columns_through
from msfser_cli.store import arrow, tables

RECIPE = Path(__file__).parents[2] / "recipes" / "ablation" / "run.py"
Program = Callable[..., subprocess.CompletedProcess[str]]
QUICK = ("--seeds", "2", "--train=--epochs 40 --rate 5e-3 --batch-size 16 --hidden-dim 16 --dropout 0", "--jobs", "1")


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, Path]:
    """192 utterances of 8 speakers, and their labels: split into training, development and test by speaker."""
    content = corpus(192)
    for line in content.labels:
        line["split"] = ("train", "dev", "test", "train", "test", "test", "test", "test")[int(line["speaker"][1])]
    embedded, gold = content.write(tmp_path)
    return embedded, gold


def lines(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "ablation.csv").open(newline="") as file:
        return {(line["dimension"], line["model"]): line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_what_a_stream_carries_is_missed_without_it(program: Program, table: tuple[Path, Path], tmp_path: Path) -> None:
    embedded, gold = table
    out = tmp_path / "out"
    command = ("python", RECIPE, embedded, "--gold", gold, "--out", out, *QUICK, "--model", "bare=--without les --without es")
    done = program(*command)
    assert done.returncode == 0, done.stderr
    found = lines(out)
    assert {model for _, model in found} == {
        "full", "without les", "without gs", "without es", "without acoustic", "concat", "attention", "single expert", "bare",
    }  # fmt: skip
    assert {(line["n"], line["clusters"], line["seeds"]) for line in found.values()} == {("120", "5", "2")}
    for dimension, stream in (("arousal", "acoustic"), ("valence", "gs")):
        line = found[dimension, f"without {stream}"]
        assert float(line["difference_low"]) > 0
        assert float(line["difference"]) > 0.15
        full = found[dimension, "full"]
        assert float(line["difference"]) == pytest.approx(float(full["ccc"]) - float(line["ccc"]))
        assert float(full["low"]) < float(full["ccc"]) < float(full["high"])
        assert full["difference"] == ""
    assert abs(float(found["arousal", "without gs"]["difference"])) < 0.1
    for dimension, model in found:
        assert re.search(rf"^\| {model} \| {float(found[dimension, model]['ccc']):.3f} \[", done.stdout, re.MULTILINE)

    again = program(*command)
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_without_a_split_every_speaker_is_scored_by_heads_that_never_heard_it(
    program: Program, table: tuple[Path, Path], tmp_path: Path
) -> None:
    """The speakers are those of the table, because the labels have none."""
    embedded, gold = table
    rows = arrow.to_rows(tables.read(embedded, columns_through("embed")))
    rows = [row | {"speaker": row["recording_id"].partition("/")[0]} for row in rows]
    tables.write_rows(embedded, rows, columns_through("embed"), tables.read_lineage(embedded))
    pl.read_csv(gold).drop("speaker", "split").write_csv(gold)
    out = tmp_path / "out"
    done = program("python", RECIPE, embedded, "--gold", gold, "--out", out, "--folds", "2", *QUICK[2:], "--seeds", "1")
    assert done.returncode == 0, done.stderr
    found = lines(out)
    assert {(line["n"], line["clusters"]) for line in found.values()} == {("192", "8")}
    assert float(found["arousal", "full"]["ccc"]) > 0.6 > 0.4 > float(found["arousal", "without acoustic"]["ccc"])
    assert found["arousal", "full"]["deviation"] == ""
    cards = [(out / "full" / "seed0" / f"round{i}" / "head" / "MODEL_CARD.md").read_text() for i in range(2)]
    counts = [tuple(map(int, re.findall(r"set: (\d+) utterances", card))) for card in cards]
    assert all(train + development == 96 for train, development in counts)
    halves = [pl.read_parquet(out / f"fold{i}.parquet").filter(split="test")["recording"].str.slice(0, 2) for i in range(2)]
    assert [set(half) for half in halves] == [{"s0", "s2", "s4", "s6"}, {"s1", "s3", "s5", "s7"}]


def test_what_cannot_be_done_is_said_in_a_sentence(program: Program, table: tuple[Path, Path], tmp_path: Path) -> None:
    embedded, gold = table
    start = ("python", RECIPE, embedded, "--gold", gold, "--out", tmp_path / "out", *QUICK)
    (tmp_path / "unit.csv").write_text("file,valence\ns0/0000.wav,0.1\ns1/0001.wav,0.9\n")
    for arguments, says in (
        (("--folds", "2", "--test", gold), "leave out --test"),
        (("--test-split", "Test9"), "--test-split"),
        (("--test", tmp_path / "unit.csv", "--scale", "1:7"), "2 of 2 values lie outside 1..7"),
    ):
        done = program(*start, *arguments)
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr

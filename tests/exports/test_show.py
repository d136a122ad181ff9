"""`msfser show`: a table, and a recording, on the terminal."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kit.program import Program, run_afresh
from kit.scored import scored_row, write_scores
from msfser_cli.cli.show import bars
from msfser_cli.errors import TableError
from msfser_cli.exports.glance import glance
from msfser_cli.schemas import LedgerLine, columns_through

LINES = [
    LedgerLine("a.mp3", utterances=2, duration=90.0),
    LedgerLine("b/c.mp3", utterances=1, duration=30.0),
    LedgerLine("d.mp3", "failed", "empty", "no bytes"),
    LedgerLine("e.mp3", "no_speech", duration=60.0),
]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rows = [
        scored_row("a.mp3", 0, [("Hello", 0.0, 1.0), ("[red]", 1.0, 2.0)], speaker="Ann", valence=0.1, emphasised=[1]),
        scored_row("a.mp3", 1, [("Oh", 60.0, 62.0)], speaker="Bo", valence=0.9, language="de"),
        scored_row("b/c.mp3", 0, [("Yes", 0.0, 1.0)], valence=None),
    ]
    return write_scores(tmp_path / "x.parquet", rows, LINES)


def test_a_glance_counts_what_the_table_and_the_ledger_have(scores: Path) -> None:
    seen = glance(scores)
    assert (seen.recordings, seen.utterances, seen.seconds, seen.speech_seconds, seen.speakers) == (4, 3, 180.0, 5.0, 2)
    assert seen.statuses == {"done": 2, "failed": 1, "no_speech": 1}
    assert (seen.reasons, seen.languages) == ({"empty": 1}, {"en": 2, "de": 1})
    valence = seen.scores["valence"]
    assert (valence.n, valence.mean, sum(valence.histogram)) == (2, 0.5, 2)
    highest = valence.highest[0]
    assert (highest.utterance_id, highest.score, highest.text) == ("a.mp3#0001", 0.9, "Oh")
    assert valence.lowest[0].utterance_id == "a.mp3#0000"


def test_a_table_without_scores_or_ledger_has_a_glance(tmp_path: Path) -> None:
    rows = [scored_row("a.mp3", 0, [("Hello", 0.0, 1.0)])]
    seen = glance(write_scores(tmp_path / "x.parquet", rows, columns=columns_through("transcribe")))
    assert (seen.recordings, seen.utterances, seen.scores) == (1, 1, {})
    assert glance(write_scores(tmp_path / "y.parquet", [])).utterances == 0


def test_the_extremes_of_several_row_groups_are_the_first_of_equals(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = [scored_row("a", i, [("Hi", i + 0.0, i + 0.5)], valence=chance.randrange(-1, 2000) / 1000) for i in range(9000)]
    valence = glance(write_scores(tmp_path / "x.parquet", rows)).scores["valence"]
    for found, sign in ((valence.lowest, 1), (valence.highest, -1)):
        expected = sorted(rows, key=lambda row: sign * row["valence"])[:3]
        assert [(e.utterance_id, e.score) for e in found] == [(row["utterance_id"], row["valence"]) for row in expected]
    assert valence.mean == pytest.approx(sum(row["valence"] for row in rows) / 9000)


def test_a_table_with_a_recording_in_two_places_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in ("a", "b"):
        write_scores(tmp_path / "x" / f"{name}.parquet", [scored_row("a.mp3", 0, [("Hello", 0.0, 1.0)])])
    with pytest.raises(TableError, match=r"'a\.mp3' are not adjacent"):
        glance(tmp_path / "x")


def test_bars_show_every_value_above_zero() -> None:
    assert bars([0, 1, 500, 1000]) == " ▁▄█"
    assert bars([0, 0]) == "  "


def test_the_corpus_on_the_terminal(msfser: Program, scores: Path) -> None:
    said = msfser(scores.parent, "show", "x.parquet", code=0).stdout
    assert "4 recordings, 3:00 of audio, 3 utterances" in said
    assert "1 empty" in said
    assert "highest valence\n  0.90  a.mp3 1:00  Oh" in said
    assert "[red]" in said
    assert json.loads(msfser(scores.parent, "show", "x.parquet", "--json", code=0).stdout)["statuses"]["failed"] == 1


@pytest.mark.process
def test_a_terminal_without_blocks_gets_escapes(scores: Path) -> None:
    assert "\\u2588" in run_afresh(scores.parent, "show", "x.parquet", code=0, PYTHONIOENCODING="ascii").stdout


def test_without_a_ledger_the_length_is_that_of_the_rows(tmp_path: Path) -> None:
    rows = [scored_row(name, i, [("Hello", 10.0 * i, 10.0 * i + 5)]) for name in ("a.mp3", "b.mp3") for i in range(2)]
    assert glance(write_scores(tmp_path / "x.parquet", rows)).seconds == 30.0


def test_a_recording_on_the_terminal(msfser: Program, scores: Path) -> None:
    said = msfser(scores.parent, "show", "x.parquet", "a.mp3", code=0).stdout
    assert "1:30, 2 utterances" in said
    assert "0:00  V 0.10 A 0.50 D 0.75  Ann: Hello [red]" in said
    valence = next(line for line in said.splitlines() if line.startswith("valence"))
    assert valence[11:].rstrip() == "▁" + " " * 57 + "██"
    assert "b/c.mp3" in msfser(scores.parent, "show", "x.parquet", "c.mp3", code=0).stdout
    assert json.loads(msfser(scores.parent, "show", "x.parquet", "a.mp3", "--json", code=0).stdout)["id"] == "a.mp3"


@pytest.mark.parametrize(
    ("wanted", "why"), [("mp3", "is the end of 2 recordings"), ("x", "is no recording"), ("d.mp3", "failed, empty")]
)
def test_a_recording_that_is_not_there_is_explained(msfser: Program, scores: Path, wanted: str, why: str) -> None:
    assert why in msfser(scores.parent, "show", "x.parquet", wanted, code=2).stderr

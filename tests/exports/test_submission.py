"""The challenge's CSV: its header, its order, its scale, and every recording once."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from msfser_cli.errors import TableError
from msfser_cli.evaluation.pairing import COLUMNS
from msfser_cli.exports.formats.submission import submission
from msfser_cli.store import tables
from msfser_cli.store.lineage import Lineage


def table(path: Path, *rows: tuple[str, float, float, float, float, float], scale: tuple[float, float] = (0, 1)) -> Path:
    """Scores: recording, start, end, valence, arousal, dominance."""
    made = [{"recording_id": r, "utterance_id": f"{r}#{i:04d}", "start": s, "end": e, "speaker": None,
             "valence": v, "arousal": a, "dominance": d}
            for i, (r, s, e, v, a, d) in enumerate(rows)]
    lineage = Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": list(scale)})
    tables.write_rows(path, made, COLUMNS, lineage)
    return path


def test_a_row_is_a_file_on_one_to_seven(tmp_path: Path) -> None:
    scores = table(tmp_path / "s.parquet", ("Audios/test3_2.flac", 0, 2, 0.5, 1.2, 0.0),
                   ("Audios/test3_1.wav", 0, 1, 0.0, 0.5, 1.0), ("Audios/test3_1.wav", 1, 4, 1.0, 0.5, 0.0),
                   ("Audios/mute.wav", 0, 1, math.nan, 0.5, 0.5))
    made = submission(scores)
    assert (made.rows, made.without) == (2, 1)
    assert made.content.decode() == (
        "FileName,EmoAct,EmoVal,EmoDom\n"
        "test3_1.wav,4.000000,5.500000,2.500000\n"  # valence (0 x 1 + 1 x 3) / 4, dominance the reverse
        "test3_2.wav,7.000000,4.000000,1.000000\n"  # arousal beyond the scale is kept within it
    )


def test_only_the_recordings_that_are_asked_for(tmp_path: Path) -> None:
    scores = table(tmp_path / "s.parquet", ("a.wav", 0, 1, 3, 4, 5), ("b.wav", 0, 1, 3, 4, 5), scale=(1, 7))
    made = submission(scores, {"b.wav"})
    assert (made.rows, made.without) == (1, 0)
    made.write(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"FileName": "b.wav", "EmoAct": "4.000000", "EmoVal": "3.000000", "EmoDom": "5.000000"}]


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    scores = table(tmp_path / "s.parquet", ("x/a.wav", 0, 1, 0, 0, 0), ("y/a.flac", 0, 1, 0, 0, 0))
    with pytest.raises(TableError, match=r"'x/a.wav' and 'y/a.flac' would both be 'a.wav'"):
        submission(scores)
    nothing = table(tmp_path / "n.parquet", ("a.wav", 0, 1, math.nan, 0, 0))
    with pytest.raises(TableError, match="no recording with all three scores"):
        submission(nothing)

"""`msfser evaluate` as a user meets it: table, JSON, and what it says of what it did."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kit.program import AFRESH
from msfser_cli.cli.app import app
from msfser_cli.errors import LabelError, UsageError
from msfser_cli.evaluation.pairing import COLUMNS
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store import tables
from msfser_cli.store.lineage import Lineage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with scores.parquet: three recordings, four utterances."""
    rows = [("audio/a.wav", 0, 1.0, 2.0, 0.2), ("audio/a.wav", 1, 2.0, 5.0, 0.4), ("audio/b.wav", 0, 0.0, 1.0, 0.9),
            ("audio/c.wav", 0, 0.0, 1.0, 0.6)]
    tables.write_rows(tmp_path / "scores.parquet", [
        {"recording_id": name, "utterance_id": f"{name}#{i:04d}", "start": start, "end": end, "speaker": None,
         "valence": value, "arousal": value, "dominance": 0.5}
        for name, i, start, end, value in rows
    ], COLUMNS, Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": [0.0, 1.0]}))
    (tmp_path / "labels.csv").write_text("file,V,A,D\na.flac,2,1.5,3\nb.flac,5,,3\nz.flac,1,1,3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_the_table_is_on_stdout_and_the_words_on_stderr(folder: Path) -> None:
    out, err = run("--gold", "labels.csv")
    assert out.splitlines()[0] == "scores.parquet against labels.csv"
    cells = [line.split() for line in out.splitlines() if line.split()[:1] in (["valence"], ["arousal"], ["dominance"])]
    # a.wav: (.2 x 1 + .4 x 3) / 4 = .35, on 1..5 2.4; b.wav: 4.6. Against 2 and 5: covariance 1.65, variances 2.25 and 1.21.
    assert cells[0] == ["valence", "0.954", "1.000", "0.400", "0.400", "2"]
    assert cells[1] == ["arousal", "not", "defined", "not", "defined", "0.900", "0.900", "1"]
    assert cells[2][0] == "dominance"
    assert "RMSE and MAE are in units of the labels' scale, 1..5" in out
    assert err.splitlines() == [
        "labels: named columns: recording = 'file', valence = 'V', arousal = 'A', dominance = 'D'",
        "scales: labels 1..5 (detected from values 1 to 5); scores 0..1, brought to 1..5",
        "matched: 2 labels, one recording each: 2 by end of the path, without extension",
        "unmatched: 1 of 3 labels, 1 of 3 recordings, 1 of 4 utterances",
        "warning: unmatched labels: 1 (z.flac)",
        "warning: unmatched recordings: 1 (audio/c.wav)",
        "warning: unmatched utterances: 1 (audio/c.wav#0000)",
        "warning: arousal: matched labels without a number: 1",
        "warning: arousal: CCC and Pearson are undefined: they need at least two pairs, but there is one",
        "warning: dominance: CCC and Pearson are undefined: all labels and all scores are the same number",
        "warning: no intervals: they need at least 5 clusters, and there are 2 recordings",
    ]
    _, log = run("--gold", "labels.csv", "--log-format", "json")
    events = [json.loads(line) for line in log.splitlines()]
    assert [(event["event"], event["message"]) for event in events] == [
        ("warning" if line.startswith("warning: ") else "note", line.removeprefix("warning: ")) for line in err.splitlines()
    ]
    quiet_out, quiet_err = run("--gold", "labels.csv", "--quiet")
    assert quiet_out == out
    assert quiet_err.splitlines() == err.splitlines()[4:]


def test_a_wide_table_is_whole_where_there_is_no_terminal(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rated = rng.uniform(1, 5, 12_000)
    tables.write_rows(folder / "scores.parquet", [
        {"recording_id": f"{i}.wav", "utterance_id": f"{i}.wav#0000", "start": 0.0, "end": 1.0, "speaker": None,
         **dict.fromkeys(DIMENSIONS, (5 - value) / 4)}
        for i, value in enumerate(rated)
    ], COLUMNS, Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": [0.0, 1.0]}))
    labels = [f"{i}.wav,{value},{value},{value}\n" for i, value in enumerate(rated)]
    (folder / "labels.csv").write_text("file,V,A,D\n" + "".join(labels))
    out, _ = run("--gold", "labels.csv")
    for dimension in DIMENSIONS:
        [line] = [line for line in out.splitlines() if line.startswith(dimension)]
        assert line.endswith("12,000")


def test_json_holds_everything_and_only_json(folder: Path) -> None:
    out, err = run("--gold", "labels.csv", "--json", "scores.parquet")
    document = json.loads(out)
    assert err == ""
    assert set(document) == {
        "scores", "gold", "label_format", "columns", "label_scale", "label_scale_source", "labels_ignored",
        "labels_outside_scale", "score_scale", "splits", "split", "unit", "matched", "matched_by",
        "unmatched_labels", "unmatched_recordings", "unmatched_utterances",
        "clusters", "resamples", "seed", "dimensions", "coverage", "is_calibrated_on_gold", "other", "differences", "groups",
    }
    assert document["columns"] == {"recording": "file", "valence": "V", "arousal": "A", "dominance": "D"}
    assert document["unmatched_labels"] == {"count": 1, "of": 3, "examples": ["z.flac"]}
    assert document["dimensions"]["arousal"]["pearson"] is None
    assert document["dimensions"]["valence"]["n"] == 2


def test_a_scale_may_be_given(folder: Path) -> None:
    out, err = run("--gold", "labels.csv", "--scale", "0:10")
    assert "labels 0..10 (given)" in err
    assert "the labels' scale, 0..10" in out
    (folder / "signed.csv").write_text("file,V\na.flac,0.5\nb.flac,0.25\n")
    with pytest.raises(LabelError, match="give the scale with --scale"):
        run("--gold", "signed.csv")
    assert "labels -1..1 (given)" in run("--gold", "signed.csv", "--scale", "-1:1")[1]
    with pytest.raises(UsageError, match="LOW:HIGH"):
        run("--gold", "labels.csv", "--scale", "7")


def test_the_output_fits_eighty_columns(folder: Path) -> None:
    out, _ = run("--gold", "labels.csv")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "code", "says"), [
    (("--gold", "missing.csv"), 4, "msfser: missing.csv: cannot be read"),
    (("--gold", "labels.csv", "other.parquet"), 4, "msfser: other.parquet: does not exist; write it with msfser predict"),
    (("--gold", "labels.csv", "--scale", "1-5"), 2, "msfser: '1-5' is not a scale; write LOW:HIGH"),
    ((), 2, "msfser: evaluate needs labels; pass them with --gold"),
    (("--submission", "s.csv", "--by", "gender"), 2, "msfser: --submission without --gold takes no other option"),
    (("--gold", "labels.csv", "--by", "age"), 2, "msfser: --by takes gender, speaker, split, language or duration, not 'age'"),
    (("--gold", "labels.csv", "--by", "gender"), 4, "msfser: labels.csv: has no gender; leave out --by gender"),
    (("--gold", "labels.csv", "--split", "Test1"), 4, "msfser: labels.csv: has no splits; leave out --split"),
    (("--gold", "labels.csv", "--clusters", "podcast"), 2, "msfser: --clusters takes speaker or recording, not 'podcast'"),
    (("--gold", "labels.csv", "--plot", "p.pdf"), 2, "msfser: p.pdf: the name of a picture must end in .png, .svg or .html"),
    (("--gold", "labels.csv", "--submission", "./labels.csv"), 2, "msfser: labels.csv: is an input or another output"),
    (("--submission", "scores.parquet"), 2, "msfser: scores.parquet: is an input or another output"),
    (("--submission", "./scores.recordings.parquet"), 2, "is an input or another output"),
    (("--gold", "labels.csv", "--submission", "p.html", "--plot", "./p.html"), 2, "p.html: is an input or another output"),
    (("--gold", "labels.csv", "--submission", "."), 2, "msfser: .: is a folder; name a file to write"),
    (("--gold", "labels.csv", "--resamples", "1000000000000"), 7, "msfser: not enough memory"),
])
def test_what_is_wrong_is_said_in_a_sentence(folder: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = subprocess.run([*AFRESH, "evaluate", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_with_control_characters_cannot_write_on_the_terminal(folder: Path) -> None:
    (folder / "odd.csv").write_text("file,V\na.flac,1\nb.flac,5\n\x1b[31mred.flac,1\n")
    _, err = run("--gold", "odd.csv")
    assert "\x1b" not in err
    assert "\\x1b[31mred.flac" in err


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with scores of 12 speakers, another system's, and labels of two splits."""
    rows, lines = [], ["FileName,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for i in range(120):
        name, rated = f"MSP-PODCAST_{i % 12:04d}_{i:04d}.wav", 1 + (i * 37 % 60) / 10
        gender, split = "Female" if i % 2 else "Male", "Test1" if i % 3 else "Test2"
        lines.append(f"{name},{rated},{8 - rated:.1f},{rated},{i % 12 + 1},{gender},{split}")
        score = (rated - 1) / 6 * 0.8 + (i * 13 % 10) / 50
        rows.append({"recording_id": f"Audios/{name}", "utterance_id": name, "start": 0.0, "end": 2.0 + i % 9, "speaker": None,
                     "valence": 1 - score, "arousal": score, "dominance": 1 - score})
    (tmp_path / "labels_consensus.csv").write_text("\n".join(lines) + "\n")
    lineage = Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": [0.0, 1.0]})
    tables.write_rows(tmp_path / "scores.parquet", rows, COLUMNS, lineage)
    flat = [{**row, "arousal": 0.5 + 0.1 * row["arousal"]} for row in rows]
    tables.write_rows(tmp_path / "other.parquet", flat, COLUMNS, lineage)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_a_report_without_intervals_does_not_explain_them(corpus: Path) -> None:
    lines = Path("labels_consensus.csv").read_text().splitlines()
    few = [line for line in lines[1:] if int(line.split("_")[1]) < 3]
    Path("few.csv").write_text("\n".join([lines[0], *few]) + "\n")
    out, err = run("--gold", "few.csv", "--resamples", "200")
    assert "warning: no intervals: they need at least 5 clusters, and there are 3 speakers" in err
    assert "[]:" not in out
    assert "\n\nOne pair is one recording." in out


@pytest.mark.process
def test_the_whole_report_fits_eighty_columns_and_loses_nothing(corpus: Path) -> None:
    out, err = run("--gold", "labels_consensus.csv", "--vs", "other.parquet", "--by", "gender", "--by", "duration",
                   "--by", "speaker", "--resamples", "200", "--submission", "sub.csv", "--plot", "p.svg")
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out, out
    assert "[]: 95 % intervals, from 200 resamples of 12 speakers." in out
    assert "female - male" in out
    assert "CCC against other.parquet, on the labels that both score" in out
    assert "* fewer than 50 pairs or 10 clusters: too few for a reliable value." in out
    assert "submission: sub.csv, 120 files, on 1..7" in err
    assert "picture: p.svg" in err
    assert "splits: Test1 80, Test2 40" in err
    assert (corpus / "p.svg").stat().st_size > 0


def test_a_submission_is_written_without_labels_or_for_a_split(corpus: Path) -> None:
    out, err = run("--submission", "all.csv")
    assert (out, err) == ("", "submission: all.csv, 120 files, on 1..7\n")
    assert len((corpus / "all.csv").read_text().splitlines()) == 121
    run("--gold", "labels_consensus.csv", "--split", "Test2", "--submission", "test2.csv", "--resamples", "200")
    assert len((corpus / "test2.csv").read_text().splitlines()) == 41


@pytest.mark.process
def test_groups_may_be_configured(corpus: Path) -> None:
    (corpus / "msfser.toml").write_text('[evaluate]\nby = ["gender", "split"]\nresamples = 200\n')
    document = json.loads(run_program("--gold", "labels_consensus.csv", "--json"))
    assert ([g["by"] for g in document["groups"]], document["resamples"]) == (["gender", "split"], 200)


def run_program(*arguments: str) -> str:
    return subprocess.run([*AFRESH, "evaluate", *arguments], capture_output=True, text=True, check=True).stdout

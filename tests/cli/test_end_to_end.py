"""The program as a user runs it: real models, the quickstart corpus, a process for every command, and no network.

Loading the models takes seconds, so one run of `predict` over the corpus is shared; tests that change something work on a copy.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.places import QUICKSTART, ROOT
from kit.program import AFRESH
from msfser_cli import schemas
from msfser_cli.store import tables
from msfser_cli.store.audio import decode, is_audio_name
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.lock import held

pytestmark = pytest.mark.process

EPISODE = "episode.mp3"
_SCRIPT = Path(sys.executable).with_name("msfser")
MSFSER = (str(_SCRIPT),) if _SCRIPT.exists() else AFRESH

Process = subprocess.CompletedProcess[str]


def msfser(folder: Path, *arguments: str, stdin: str = "") -> Process:
    """Run the program in `folder`."""
    return subprocess.run([*MSFSER, *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False)


def ok(folder: Path, *arguments: str, stdin: str = "") -> Process:
    """Run the program in `folder`; it must exit with 0."""
    done = msfser(folder, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done


def watched(folder: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """The program, started in `folder` with its messages on a terminal; also the other end of that."""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    run = subprocess.Popen([*MSFSER, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    os.close(stderr)
    return run, terminal


def table(path: Path) -> pa.Table:
    """A table without its lineage, which is not about its rows."""
    return pq.read_table(path).replace_schema_metadata(None)


def rows(path: Path, *, episode: bool = True) -> list[dict[str, Any]]:
    """The rows of a table, of the episode or without it."""
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [row for row in found if episode or row["recording_id"] != EPISODE]


def without_episode(corpus: Path) -> Path:
    """The quickstart's clips, which take a third of the time of the whole."""
    (corpus / EPISODE).unlink()
    return corpus


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of each file beside the corpus."""
    files = (folder / name for name in names(folder) if name != "corpus")
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def names(folder: Path) -> list[str]:
    """What is in the folder, but for what is remembered of a corpus that was there for a while."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".seen")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Process]:
    """A folder with corpus/ and scores.parquet, and what the run that made it said."""
    folder = tmp_path_factory.mktemp("predicted")
    shutil.copytree(QUICKSTART / "corpus", folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder, ok(folder, "predict", "corpus", "--out", "scores.parquet")


@pytest.fixture
def copied(predicted: tuple[Path, Process], tmp_path: Path) -> Path:
    """A copy of the folder `predicted`, to be changed."""
    return Path(shutil.copytree(predicted[0], tmp_path / "copied"))


# One run


def test_every_file_is_in_the_ledger_and_the_counts_add_up(predicted: tuple[Path, Process]) -> None:
    folder, done = predicted
    ledger = read_ledger(folder / "scores.parquet")
    files = {p.relative_to(folder / "corpus").as_posix() for p in (folder / "corpus").rglob("*") if p.is_file()}
    assert set(ledger) == files
    assert {name for name, line in ledger.items() if line["status"] == "no_speech"} == {"clips/tones.wav"}
    assert {line["status"] for line in ledger.values()} == {"done", "no_speech"}
    found = rows(folder / "scores.parquet")
    for name, line in ledger.items():
        assert line["utterances"] == sum(row["recording_id"] == name for row in found)
        assert line["duration"] == pytest.approx(decode(folder / "corpus" / name).duration, abs=1e-3)
        assert line["size_bytes"] == (folder / "corpus" / name).stat().st_size
    assert done.stdout == ""
    assert f"{len(files)} recordings: {len(files) - 1} done ({len(found)} utterances), 1 without speech, 0 failed" in done.stderr
    assert names(folder) == ["corpus", "scores.parquet", "scores.recordings.parquet"]


def test_the_table_is_what_the_schemas_say(predicted: tuple[Path, Process]) -> None:
    path = predicted[0] / "scores.parquet"
    columns = schemas.columns_through("predict", vectors=False)
    assert pq.read_schema(path).names == schemas.names(columns)
    found, (low, high) = rows(path), tables.read_lineage(path).extra["scale"]
    for row in found:
        assert all(row[c.name] is not None for c in columns if not c.nullable)
        assert all(low <= row[dimension] <= high for dimension in ("valence", "arousal", "dominance"))
        assert row["gate_les"] + row["gate_gs"] + row["gate_es"] == pytest.approx(1, abs=1e-5)
        assert sum(row["router_valence"]) == pytest.approx(1, abs=1e-5)
        assert row["text"]
        assert row["description"]
        assert row["start"] <= row["words"][0]["start"] < row["words"][-1]["end"] <= row["end"]
        assert len(row["emphasis"]) == len(row["emphasis_cues"]) == len(row["words"])
    assert len({row["valence"] for row in found}) == len(found)


def test_the_words_are_those_that_were_said(predicted: tuple[Path, Process]) -> None:
    by_name = {row["recording_id"]: row for row in rows(predicted[0] / "scores.parquet")}
    assert "grandmother died last night" in by_name["clips/bad_news.ogg"]["text"]
    assert "lost my luggage" in by_name["clips/complaint.wav"]["text"]
    assert {name: row["language"] for name, row in by_name.items() if row["language"] != "en"} == {"clips/morgen.m4a": "de"}
    stress = by_name["clips/stress.flac"]
    scores = dict(zip((word["word"] for word in stress["words"]), stress["emphasis"], strict=True))
    assert max(scores, key=scores.__getitem__) == "green"
    assert "green" in stress["emphasized_text"]
    assert "speech" in stress["description"]


def test_the_episode_is_cut_into_utterances(predicted: tuple[Path, Process]) -> None:
    episode = [row for row in rows(predicted[0] / "scores.parquet") if row["recording_id"] == "episode.mp3"]
    assert len(episode) >= 8
    assert [row["utterance_id"] for row in episode] == [f"episode.mp3#{i:04d}" for i in range(len(episode))]
    assert all(0.5 < row["end"] - row["start"] <= 12.2 for row in episode)
    assert all(a["end"] <= b["start"] for a, b in pairwise(episode))


def test_the_readme_s_first_command_prints_the_head(predicted: tuple[Path, Process]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [(predict, code)] = re.findall(r'\.venv/bin/msfser (.*?) &&\s+\.venv/bin/python -c "(.*?)" &&\n', readme, re.DOTALL)
    assert predict == "predict recipes/quickstart/corpus --out scores.parquet"
    done = subprocess.run([sys.executable, "-c", code], cwd=predicted[0], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("shape: (5, 5)\n")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert readme.count("shape: (5, 5)\n") == 1


def test_the_readme_s_picture_is_that_of_the_table(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    script = QUICKSTART / "picture.py"
    arguments = (predicted[0] / "scores.parquet", QUICKSTART / "corpus", "clips/stress.flac#0000", tmp_path / "utterance.svg")
    subprocess.run([sys.executable, script, *arguments], check=True)
    drawn, shown = (re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"))
                    for path in (tmp_path / "utterance.svg", QUICKSTART / "utterance.svg"))
    assert "green" in drawn
    assert drawn == shown


def test_the_examples_in_python_read_the_table(
    predicted: tuple[Path, Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "recipes" / "tables" / "README.md").read_text(encoding="utf-8")
    for name in ("scores.parquet", "scores.recordings.parquet"):
        shutil.copy(predicted[0] / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    with_pandas, with_polars, metadata = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(with_pandas, {})
    words = [word["word"] for row in rows(tmp_path / "scores.parquet") for word in row["words"]]
    with (tmp_path / "words.csv").open(encoding="utf-8", newline="") as file:
        assert [line["word"] for line in csv.DictReader(file)] == words
    exec(with_polars, {})
    assert "shape: (10, 5)" in capsys.readouterr().out
    exec(metadata, {})
    assert "Systran/faster-whisper-base" in capsys.readouterr().out


# The chain


def commands_in_readme() -> list[list[str]]:
    """The chain of six commands, as the README writes it."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("msfser transcribe "))
    chain = [shlex.split(line)[1:] for line in lines[first : first + 6]]
    assert [command[0] for command in chain] == ["transcribe", "emphasize", "describe", "embed", "predict", "evaluate"]
    return chain


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["clips", pytest.param("clips and an episode", marks=pytest.mark.slow)])
def test_six_commands_give_what_one_gives(predicted: tuple[Path, Process], tmp_path: Path, corpus: str) -> None:
    shutil.copytree(QUICKSTART, tmp_path / "recipes" / "quickstart")
    episode = corpus != "clips"
    if not episode:
        without_episode(tmp_path / "recipes" / "quickstart" / "corpus")
    for command in commands_in_readme():
        done = ok(tmp_path, *command)
    assert rows(tmp_path / "scores.parquet") == rows(predicted[0] / "scores.parquet", episode=episode)
    one, six = read_ledger(predicted[0] / "scores.parquet"), read_ledger(tmp_path / "scores.parquet")
    for name in ("status", "reason", "size_bytes", "sha256", "duration", "utterances"):
        assert {k: line[name] for k, line in one.items() if episode or k != EPISODE} == {k: line[name] for k, line in six.items()}
    assert "CCC" in done.stdout

    document = json.loads(ok(tmp_path, *command, "--json").stdout)
    assert document["matched"] == 6 + episode
    assert (document["unmatched_labels"]["count"], document["unmatched_utterances"]["count"]) == (1 - episode, 0)
    assert document["label_scale"] == {"low": 1.0, "high": 5.0}
    assert all(document["dimensions"][d]["n"] == 6 + episode for d in ("valence", "arousal", "dominance"))


# Running again


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "threads"), [(None, None), ("0", "2"), ("2", "1")])
def test_neither_workers_nor_threads_change_a_row(
    predicted: tuple[Path, Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str | None, threads: str | None
) -> None:
    folder, _ = predicted
    (tmp_path / "corpus" / "clips").mkdir(parents=True)
    for name in ("clips/morgen.m4a", "clips/stress.flac"):
        shutil.copy(folder / "corpus" / name, tmp_path / "corpus" / name)
    for name, value in (("MSFSER_JOBS", jobs), ("OMP_NUM_THREADS", threads)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    ok(tmp_path, "predict", "corpus", "--out", "two.parquet")
    before = {row["utterance_id"]: row for row in rows(folder / "scores.parquet")}
    again = rows(tmp_path / "two.parquet")
    assert len({row["recording_id"] for row in again}) == 2
    assert again == [before[row["utterance_id"]] for row in again]


def test_running_again_does_nothing(copied: Path) -> None:
    before = snapshot(copied)
    document = json.loads(ok(copied, "predict", "corpus", "--root", "corpus", "--json").stdout)
    assert (document["recordings"], document["unchanged"], document["done"], document["failed"]) == (8, 8, 0, 0)
    assert document["published"]["utterances"] == len(rows(copied / "scores.parquet"))
    assert snapshot(copied) == before
    quiet = ok(copied, "predict", "corpus", "--root", "corpus", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert snapshot(copied) == before


def test_a_run_that_finds_nothing_new_loads_no_model_and_nothing_that_is_slow_to_load(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    told = ok(copied, "predict", "corpus", "--root", "corpus").stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "msfser_cli.runs.runner" in loaded
    assert not loaded & {"torch", "ctranslate2", "onnxruntime", "pandas", "polars", "av"}


@pytest.mark.slow
def test_what_is_new_is_done_and_a_broken_file_ends_nothing(copied: Path) -> None:
    before = table(copied / "scores.parquet")
    (copied / "corpus" / "broken.wav").write_bytes(b"This is no sound. " * 1000)
    shutil.copy(QUICKSTART / "corpus" / "clips" / "stress.flac", copied / "corpus" / "new.flac")

    planned = ok(copied, "predict", "corpus", "--root", "corpus", "--dry-run")
    assert planned.stdout.splitlines() == ["broken.wav", "new.flac"]
    assert table(copied / "scores.parquet").equals(before)

    done = msfser(copied, "predict", "corpus", "--root", "corpus", "--json")
    assert done.returncode == 3
    counts = json.loads(done.stdout)
    assert (counts["recordings"], counts["unchanged"], counts["done"], counts["failed"]) == (10, 8, 1, 1)
    assert "failed: broken.wav: not_audio: " in done.stderr
    line = read_ledger(copied / "scores.parquet")["broken.wav"]
    assert (line["status"], line["reason"], line["utterances"]) == ("failed", "not_audio", 0)
    found = rows(copied / "scores.parquet")
    kept = [row for row in found if row["recording_id"] != "new.flac"]
    assert kept == before.to_pylist()
    own = {"recording_id", "utterance_id"}
    [new] = [{k: v for k, v in row.items() if k not in own} for row in found if row["recording_id"] == "new.flac"]
    [old] = [{k: v for k, v in row.items() if k not in own} for row in kept if row["recording_id"] == "clips/stress.flac"]
    assert new == old

    again = msfser(copied, "predict", "corpus", "--root", "corpus")
    assert again.returncode == 3
    assert "10 unchanged" in again.stderr


@pytest.mark.slow
def test_other_settings_are_refused_unless_the_work_starts_over(copied: Path) -> None:
    before = snapshot(copied)
    refused = msfser(copied, "predict", "corpus", "--share", "0.5")
    assert refused.returncode == 2
    assert "emphasize.share: 0.2, now 0.5" in refused.stderr
    assert "--redo" in refused.stderr
    assert snapshot(copied) == before

    one = ok(copied, "predict", "corpus/clips/stress.flac", "--share", "0.5", "--redo")
    assert "1 recordings: 1 done" in one.stderr
    [row] = rows(copied / "scores.parquet")
    assert set(read_ledger(copied / "scores.parquet")) == {row["recording_id"]} == {"stress.flac"}
    words = sum(span["last_word"] - span["first_word"] + 1 for span in row["emphasis_spans"])
    assert words > 0.2 * len(row["words"]) + 1


@pytest.mark.slow
def test_terminating_a_run_keeps_what_was_finished(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    without_episode(Path(shutil.copytree(predicted[0] / "corpus", folder / "corpus")))
    (folder / "corpus" / "clips" / "empty.wav").touch()  # ends a batch of recordings
    out = folder / "scores.parquet"
    command = ("predict", "corpus", "--out", "scores.parquet")
    run, terminal = watched(folder, *command)
    seen, finished = "", 0
    with os.fdopen(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # raised when the other end is closed
        while text := screen.read(4096):
            seen += text.decode(errors="replace")
            # The bar, which only a terminal gets, says when the run is in the middle of its work.
            if not finished and (counts := re.findall(r" ([2-6])/8 recordings", seen)):
                finished = int(counts[-1])
                run.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, seen
    assert "stopped by SIGTERM; finished work is kept" in seen
    assert not out.exists()

    again = subprocess.run([*MSFSER, *command, "--json"], cwd=folder, capture_output=True, text=True, check=False)
    document = json.loads(again.stdout)
    assert document["unchanged"] >= finished > 0
    assert document["done"] > 0
    assert (again.returncode, document["published"]["done"] + document["published"]["no_speech"]) == (3, 7)
    assert rows(out) == rows(predicted[0] / "scores.parquet", episode=False)
    assert names(folder) == ["corpus", "scores.parquet", "scores.recordings.parquet"]


def test_on_a_terminal_the_last_lines_say_what_came_out_and_what_to_type_next(copied: Path) -> None:
    command = ("predict", "corpus", "--root", "corpus", "--out", "scores.parquet")
    run, terminal = watched(copied, *command)
    said = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while text := screen.read(4096):
            said += text
    assert run.wait() == 0
    mean, highest, more = said.decode().splitlines()[-3:]
    scores = pl.read_parquet(copied / "scores.parquet")
    assert mean == "mean scores: " + ", ".join(f"{d} {scores[d].mean():.2f}" for d in ("valence", "arousal", "dominance"))
    top = scores.sort("arousal").row(-1, named=True)
    assert highest.startswith(f"highest arousal: {top['arousal']:.2f} in {top['recording_id']} at 0:")
    assert more == "see all of it: msfser show scores.parquet, or msfser report scores.parquet --out report/"
    assert "mean scores" not in ok(copied, *command).stderr


# What goes in


def test_a_dry_run_writes_nothing(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    done = ok(predicted[0], "predict", "corpus", "--dry-run", "--out", str(tmp_path / "scores.parquet"))
    corpus = predicted[0] / "corpus"
    assert done.stdout.splitlines() == sorted(p.relative_to(corpus).as_posix() for p in corpus.rglob("*") if is_audio_name(p))
    assert "8 of 8 recordings would be done: transcribe, emphasize, describe, embed, predict" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_paths_on_stdin(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    paths = "corpus/clips/tones.wav\ncorpus/clips/stress.flac\n"
    ok(predicted[0], "transcribe", "-", "--out", str(tmp_path / "utterances.parquet"), "--root", "corpus", stdin=paths)
    ledger = read_ledger(tmp_path / "utterances.parquet")
    statuses = {name: line["status"] for name, line in ledger.items()}
    assert statuses == {"clips/tones.wav": "no_speech", "clips/stress.flac": "done"}
    [row] = rows(tmp_path / "utterances.parquet")
    [same] = [row for row in rows(predicted[0] / "scores.parquet") if row["recording_id"] == "clips/stress.flac"]
    assert row == {name: same[name] for name in schemas.names(schemas.TRANSCRIBE)}


def test_a_manifest_s_own_times_texts_and_speakers_are_kept(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    shutil.copy(QUICKSTART / "corpus" / "episode.mp3", tmp_path)
    episode = [row for row in rows(predicted[0] / "scores.parquet") if row["recording_id"] == "episode.mp3"]
    first, third = episode[0], episode[2]
    text = "Welcome back to the light house diary"
    (tmp_path / "manifest.csv").write_text(
        "path,start,end,text,speaker,language\n"
        f"episode.mp3,{third['start']},{third['end']},,keeper,\n"
        f"episode.mp3,{first['start']},{first['end']},{text},keeper,en\n"
    )
    ok(tmp_path, "transcribe", "manifest.csv")
    given, heard = rows(tmp_path / "utterances.parquet")
    assert (given["start"], given["end"], given["text"]) == (first["start"], first["end"], text)
    assert [word["word"] for word in given["words"]] == text.split()
    times = [time for word in given["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert given["start"] <= times[0] < times[-1] <= given["end"]
    assert (given["language"], given["language_probability"]) == ("en", None)
    assert (heard["start"], heard["end"]) == (third["start"], third["end"])
    assert "afternoon" in heard["text"]
    assert {given["speaker"], heard["speaker"]} == {"keeper"}


@pytest.mark.slow
def test_one_utterance_a_file(predicted: tuple[Path, Process], tmp_path: Path) -> None:
    episode = QUICKSTART / "corpus" / "episode.mp3"
    ok(tmp_path, "transcribe", str(episode), "--unit", "file")
    [row] = rows(tmp_path / "utterances.parquet")
    assert (row["start"], row["end"]) == (0, pytest.approx(decode(episode).duration, abs=1e-3))
    assert "Welcome back" in row["text"]
    assert "good night" in row["text"]


# What is refused


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (("predict", "nowhere"), 2, "nowhere: no such file or folder"),
    (("predict", "corpus", "--unit", "sentence"), 2, "unit must be one of utterance, file"),
    (("predict", "corpus", "--profile", "huge"), 2, "there is no profile 'huge'"),
    (("predict", "corpus", "--transcriber", "nobody"), 2, "there is no transcriber 'nobody'"),
    (("predict", "corpus", "--out", "new"), 2, "new: not a name for --out; name a file that ends in .parquet, or"),
    (("predict", "corpus", "--pitch-weight", "inf"), 2, "the cue weights must be"),
    (("emphasize", "scores.parquet"), 4, "scores.parquet: a table of predict; emphasize needs a table of transcribe"),
    (("describe", "corpus/episode.mp3"), 4, "corpus/episode.mp3: not a Parquet file"),
    (("evaluate", "--gold", "nowhere.csv"), 4, "nowhere.csv: cannot be read"),
    (("predict", "corpus", "--out", "new.parquet", "--model", "nobody/nothing"), 5, "run: msfser models fetch nobody/nothing"),
    (("predict", "corpus", "--out", "new.parquet", "--head", "nowhere"), 5, "there is no checkpoint 'nowhere'"),
    (("predict", "corpus", "--out", "new.parquet", "--profile", "paper"), 5, "is not on this machine; run: "),
])  # fmt: skip
def test_what_cannot_be_done_is_said_before_any_work(
    predicted: tuple[Path, Process], arguments: tuple[str, ...], code: int, says: str
) -> None:
    before = snapshot(predicted[0])
    done = msfser(predicted[0], *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("msfser: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(predicted[0]) == before


def test_debug_adds_a_traceback_and_changes_no_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = msfser(tmp_path, "predict", "nowhere")
    assert (plain.returncode, plain.stderr) == (2, "msfser: nowhere: no such file or folder\n")
    monkeypatch.setenv("MSFSER_DEBUG", "1")
    for arguments in ((), ("--debug",)):
        done = msfser(tmp_path, "predict", "nowhere", *arguments)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert done.stderr.endswith(plain.stderr)


def test_an_option_comes_from_the_line_else_the_environment_else_the_file(
    predicted: tuple[Path, Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = str(predicted[0] / "corpus")
    (tmp_path / "msfser.toml").write_text('[predict]\nout = "file.csv"\n')
    assert "file.csv: not a name for --out" in msfser(tmp_path, "predict", corpus).stderr
    monkeypatch.setenv("MSFSER_OUT", "variable.csv")
    assert "variable.csv: not a name for --out" in msfser(tmp_path, "predict", corpus).stderr
    assert "line.csv: not a name for --out" in msfser(tmp_path, "predict", corpus, "--out", "line.csv").stderr
    (tmp_path / "msfser.toml").write_text("predict = 3\n")
    done = msfser(tmp_path, "predict", corpus)
    assert (done.returncode, "put its options into a table [predict]" in done.stderr) == (2, True)


def test_a_held_output_is_left_alone(predicted: tuple[Path, Process]) -> None:
    with held(predicted[0] / "scores.parquet"):
        done = msfser(predicted[0], "predict", "corpus")
    assert done.returncode == 6
    assert f"another run is writing here (process {os.getpid()} on " in done.stderr

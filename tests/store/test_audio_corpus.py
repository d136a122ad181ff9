"""Every format, whole and damaged in every way that has a name: the verdict, the length and the sound of EXPECTED.csv.

Its columns: `verdict` is what the ledger says with the test double, which hears a word in each whole second but in silence (done,
no_speech, or the reason of a failure); `seconds` of audio where it decodes; `likeness`, the least correlation with what was
recorded, where that is what should come out; and why that is right.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit import audio_corpus
from kit.places import DOUBLES, ROOT
from kit.program import Done, run_afresh
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import decode, file_sha256
from msfser_cli.store.ledger import read_ledger

pytestmark = pytest.mark.process

with (Path(__file__).parent / "EXPECTED.csv").open(encoding="utf-8", newline="") as _file:
    EXPECTED = {line["name"]: line for line in csv.DictReader(_file)}
DECODES = ("done", "no_speech")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return audio_corpus.build(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_every_file_has_its_line(corpus: dict[str, Path]) -> None:
    assert list(EXPECTED) == list(corpus)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(corpus: dict[str, Path], name: str) -> None:
    expected = EXPECTED[name]
    if expected["verdict"] not in DECODES:
        with pytest.raises(RecordingError) as caught:
            decode(corpus[name])
        assert (caught.value.reason, str(corpus[name]) in caught.value.detail) == (expected["verdict"], False)
        return
    sound = decode(corpus[name])
    assert sound.duration == pytest.approx(float(expected["seconds"]), abs=0.02)
    samples = sound.clip(0, 60)
    assert np.isfinite(samples).all()
    if expected["likeness"]:
        original = audio_corpus.voice(16_000)
        assert audio_corpus.likeness(samples, original) > float(expected["likeness"])
    if expected["verdict"] == "no_speech" and sound.duration >= 1:
        assert not samples.any()


def test_no_permission(tmp_path: Path, stoppable: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(audio_corpus.sound("wav16"))
    path.chmod(0)
    script = """if True:
        import os, pathlib, sys
        from msfser_cli.store.audio import decode
        os.chdir(sys.argv[1])
        os.setuid(int(sys.argv[2]))
        decode(pathlib.Path("a.wav"))
    """
    command = [sys.executable, "-c", script, str(tmp_path), str(stoppable)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RecordingError: unreadable: msfser cannot open it (Permission denied)" in done.stderr


def test_the_same_bytes_are_the_same_sound(corpus: dict[str, Path]) -> None:
    one, other = corpus["twice-a.wav"], corpus["twice-b.wav"]
    assert file_sha256(one) == file_sha256(other)
    np.testing.assert_array_equal(decode(one).clip(0, 60), decode(other).clip(0, 60))


@pytest.mark.slow
def test_a_day_is_the_longest_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(audio_corpus.long_silence(23.9))
    assert path.stat().st_size < 1_000_000
    assert 23.8 * 3600 < decode(path).duration < 24 * 3600
    path.write_bytes(audio_corpus.long_silence(24.1))
    with pytest.raises(RecordingError, match="too_long"):
        decode(path)


@pytest.mark.slow
def test_every_file_is_in_the_ledger(corpus: dict[str, Path], tmp_path: Path) -> None:
    folder = corpus["wav16-sound.wav"].parent
    names = [name for name in EXPECTED if name not in ("folder.wav", "wrapped.wav")]  # one is a folder, one is 4 GiB
    names.append("removed.wav")
    listed = "".join(f"{folder / name}\n" for name in names)
    first = transcribe(tmp_path, folder, listed)
    assert (first.returncode, first.stdout, "Traceback" in first.stderr) == (3, "", False)
    ledger = read_ledger(tmp_path / "u.parquet")
    verdicts = {name: line["reason"] or line["status"] for name, line in ledger.items()}
    assert verdicts == {name: EXPECTED[name]["verdict"] for name in names[:-1]} | {"removed.wav": "missing"}
    heard = {name for name, line in ledger.items() if line["status"] != "failed"}
    for name in heard:
        assert ledger[name]["duration"] == pytest.approx(float(EXPECTED[name]["seconds"]), abs=0.02)
    done = sum(line["status"] == "done" for line in ledger.values())
    table = pq.read_table(tmp_path / "u.parquet")
    assert set(table["recording_id"].to_pylist()) == {name for name in heard if ledger[name]["status"] == "done"}
    assert (
        f"{len(names)} recordings: {done} done ({len(table)} utterances), {len(heard) - done} without speech, "
        f"{len(names) - len(heard)} failed"
    ) in first.stderr
    before = {path.name: path.read_bytes() for path in tmp_path.glob("u.*")}
    second = transcribe(tmp_path, folder, listed)
    assert second.returncode == 3
    assert f"{len(names)} unchanged" in second.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.glob("u.*")} == before
    assert {path.name for path in tmp_path.iterdir()} - before.keys() <= {".u.parquet.seen"}  # which learns as files grow older


def transcribe(folder: Path, root: Path, listed: str) -> Done:
    """`msfser transcribe` of the files that are listed, with the double, into u.parquet."""
    path = os.pathsep.join([str(DOUBLES), os.environ["PYTHONPATH"]])
    options = ["--out", "u.parquet", "--transcriber", "double", "--model", "whisper-base", "--max-failed", "1"]
    return run_afresh(folder, "transcribe", "-", "--root", str(root), *options, stdin=listed, PYTHONPATH=path)

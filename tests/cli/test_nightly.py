"""A run by night: what it prints, which is what cron mails, and how it takes signals; real processes, quick back ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kit.program import MAIN, Done, Program, run_afresh
from kit.sounds import speak, tone, write_wav
from msfser_cli.cli.log import EVENTS
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.lock import held

pytestmark = pytest.mark.process

COMMAND = ["transcribe", "corpus", "--transcriber", "double", "--model", "model", "--max-failed", "1"]
Transcribe = Callable[..., Done]


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubles: None) -> Path:
    """A working directory with corpus/, two recordings and a page that is none, and a model for the double to ignore."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "model").mkdir()
    for number in range(2):
        speak(tmp_path / "corpus" / f"{number}.wav")
    (tmp_path / "corpus" / "page.mp3").write_text("<html>not here</html>")
    return tmp_path


@pytest.fixture
def transcribe(msfser: Program, night: Path) -> Transcribe:
    """Runs `COMMAND` as cron does: no terminal, nothing on stdin."""
    return lambda *more: msfser(night, *COMMAND, *more)


def events(done: Done) -> list[dict[str, Any]]:
    """The log of a run in JSON; every line must be one of its objects."""
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    for event in found:
        assert event["event"] in EVENTS
        assert event["level"] in ("info", "warning", "error")
        assert datetime.fromisoformat(event["time"]).tzinfo
        assert event["message"]
    return found


# What cron mails


def test_a_quiet_night_mails_new_failures_once_and_briefly(transcribe: Transcribe, night: Path) -> None:
    for number in range(30):
        (night / "corpus" / f"page{number:02d}.mp3").write_text(f"<html>{number}</html>")
    (night / "corpus" / "page00\x1b[31m\r.mp3").write_text("<html>red</html>")
    first = run_afresh(night, *COMMAND, "--quiet")  # what libraries say while they are imported would be mailed, too
    assert (first.returncode, first.stdout) == (3, "")
    lines = first.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines[:10]] == ["failed"] * 10
    assert lines[1] == r"failed: page00\x1b[31m\r.mp3: not_audio: " + lines[0].partition("not_audio: ")[2]
    assert lines[10] == "failed or incomplete: 22 more"
    assert lines[11].startswith("34 recordings: 2 done (2 utterances), 0 without speech, 32 failed, 0 unchanged; ")
    assert lines[12:] == ["utterances.parquet: 2 utterances", "32 failed: see utterances.recordings.parquet"]
    assert all(c == "\n" or c.isprintable() for c in first.stderr)

    known = transcribe("--quiet")
    assert (known.returncode, known.stdout, known.stderr) == (3, "", "")
    (night / "corpus" / "new.mp3").write_text("<html>new</html>")
    speak(night / "corpus" / "2.wav")
    assert [line.partition(":")[0] for line in transcribe("--quiet").stderr.splitlines()] == [
        "failed", "36 recordings", "utterances.parquet", "33 failed",
    ]  # fmt: skip


def test_speech_without_words_is_said_and_an_archive_can_be_searched_for_it(transcribe: Transcribe, night: Path) -> None:
    (night / "corpus" / "page.mp3").unlink()
    write_wav(night / "corpus" / "mumbled.wav", tone(90.0, 1000.0, 0.1))
    sentence = ("1:28 of 1:30 of speech has no words, most of it in 1 recording: "
                "see the columns speech_seconds and transcribed_seconds of utterances.recordings.parquet")  # fmt: skip
    done = transcribe("--json", "--quiet")
    assert (done.returncode, sentence in done.stderr.splitlines()) == (0, True)
    result = json.loads(done.stdout)
    assert (result["speech_seconds"], result["transcribed_seconds"], result["missing_words"]) == (90.0, 1.9, 1)
    ledger = pl.read_parquet(night / "utterances.recordings.parquet")
    lost = ledger.filter(pl.col("speech_seconds") - pl.col("transcribed_seconds") > 10)
    assert lost["recording_id"].to_list() == ["mumbled.wav"]
    assert ledger["speech_seconds"].null_count() == 2  # the double does not measure it in the others
    assert transcribe("--quiet").stderr == ""


def test_rows_that_repeat_are_in_the_ledger_and_not_in_every_mail(msfser: Program, night: Path) -> None:
    (night / "m.csv").write_text("path,start,end\n0.wav,0,1\n0.wav,0,1\n1.wav,0,1\n")
    manifest = ["transcribe", "m.csv", "--root", "corpus", *COMMAND[2:], "--out", "m.parquet"]
    first = msfser(night, *manifest, code=0)
    assert "manifest rows that repeat another: 1 (line 2 and line 3), all annotated" in first.stderr
    notes = {name: line["note"] for name, line in read_ledger(night / "m.parquet").items()}
    assert notes == {"0.wav": "manifest rows that repeat another: 1 (line 2 and line 3), all annotated", "1.wav": None}
    assert msfser(night, *manifest, "--quiet", code=0).stderr == ""


def test_a_night_that_finds_another_run_says_so_in_a_line(transcribe: Transcribe, night: Path) -> None:
    with held(night / "utterances.parquet"):
        done = transcribe("--quiet")
    assert (done.returncode, done.stdout) == (6, "")
    assert re.fullmatch(rf"msfser: utterances\.parquet: another run is writing here \(process {os.getpid()} on .*\n", done.stderr)


def test_what_libraries_log_is_not_mailed(night: Path) -> None:
    code = f"import logging\nfrom msfser_cli.cli import app\n{{}}\n{MAIN}"
    noise = "app.log.set = lambda *a, **k: [logging.getLogger(n).warning('psst') for n in ('a.library', 'msfser')]"
    done = subprocess.run([sys.executable, "-c", code.format(noise), "predict", "nowhere"], cwd=night, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.stderr.splitlines() == ["warning: psst", "msfser: nowhere: no such file or folder"]


# What a program reads


def test_the_log_in_json_tells_the_run(transcribe: Transcribe, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSFSER_LOG_FORMAT", "json")
    done = transcribe("--json")
    start, *recordings, summary = events(done)
    assert (start["event"], start["recordings"], start["out"]) == ("start", 3, "utterances.parquet")
    assert [(e["event"], e["level"], e["recording_id"], e["status"], e["reason"]) for e in recordings] == [
        ("recording", "info", "0.wav", "done", None), ("recording", "info", "1.wav", "done", None),
        ("recording", "warning", "page.mp3", "failed", "not_audio"),
    ]  # fmt: skip
    assert (summary["event"], summary["level"], summary["failed"], summary["exit_code"]) == ("summary", "warning", 1, 3)
    assert json.loads(done.stdout).items() <= summary.items()
    [summary] = [e for e in events(transcribe()) if e["event"] != "start"]
    assert (summary["level"], summary["unchanged"], summary["exit_code"]) == ("info", 3, 3)
    assert transcribe("--quiet").stderr == ""
    (night / "corpus" / "new.mp3").write_text("<html>new</html>")
    assert [e["event"] for e in events(transcribe("--quiet"))] == ["recording", "summary"]
    speak(night / "corpus" / "3.wav")
    [planned] = events(transcribe("--dry-run"))
    assert (planned["event"], planned["pending"], planned["gone"]) == ("summary", 1, 0)


@pytest.mark.parametrize(("more", "code", "says"), [
    (("--pause", "-1"), 2, "pause must be above 0 s"),
    (("--beam-size", "many"), 2, "not a valid int"),
    (("--no-such-option",), 2, "No such option"),
    (("--transcriber", "nobody"), 2, "there is no transcriber 'nobody'"),
    (("--model", "nowhere"), 5, "there is no model 'nowhere'"),
    (("--debug", "--pause", "-1"), 2, "pause must be"),
])  # fmt: skip
def test_the_log_in_json_tells_why_a_command_ended(
    transcribe: Transcribe, night: Path, more: tuple[str, ...], code: int, says: str
) -> None:
    done = transcribe("--log-format=json", *more)
    *before, error = events(done)
    assert (done.returncode, error["event"], error["level"], error["exit_code"]) == (code, "error", "error", code)
    assert says in error["message"]
    assert ("Traceback" in error.get("traceback", "")) == ("--debug" in more)
    assert {event["event"] for event in before} <= ({"library"} if "--debug" in more else set())


def test_the_log_in_json_has_what_libraries_print(night: Path) -> None:
    noise = "import sys\napp.find = lambda *a: print('one\\ntwo', file=sys.stderr)"
    code = f"from msfser_cli.runs import source as app\n{noise}\n{MAIN}"
    (night / "msfser.toml").write_text('log-format = "json"\n')
    done = subprocess.run([sys.executable, "-c", code, *COMMAND], cwd=night, capture_output=True, text=True, check=False)
    assert [(e["event"], e["message"]) for e in events(done)][:2] == [("library", "one"), ("library", "two")]
    assert events(done)[2]["message"].startswith("a bug: ")
    assert done.returncode == 1


def test_a_format_that_there_is_not_is_refused(transcribe: Transcribe, night: Path) -> None:
    done = transcribe("--log-format", "xml")
    assert (done.returncode, done.stderr) == (2, "msfser: --log-format takes text or json, not 'xml'\n")


# Signals

BUSY = """
import signal, sys, time
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whoever started the tests in the background may have had it ignored

def busy(*arguments, **more):
    Path("busy").touch()
    {how}

{where} = busy
from msfser_cli.cli.app import main
main()
"""
SLOW = "time.sleep(600)"
SWALLOWED = "try:\n        time.sleep(600)\n    except Exception:\n        pass"
TRANSLATED = "try:\n        time.sleep(600)\n    except Exception as error:\n        raise RuntimeError('cannot load') from error"
PLACES = {
    "reading ahead": ("import msfser_cli.store.seen as m; m.file_sha256", SLOW, ()),
    "listing": ("import msfser_cli.runs.source as m; m.find", SLOW, ()),
    "looking, dry, in what hides it": ("import msfser_cli.runs.runner as m; m.look", TRANSLATED, ("--dry-run",)),
    "loading, which hides it": ("import msfser_doubles.transcriber as m; m.load", TRANSLATED, ()),
    "a model, which hides it": ("import msfser_doubles.transcriber as m; m.Double.transcribe", TRANSLATED, ()),
    "a model, which swallows it": ("import msfser_doubles.transcriber as m; m.Double.transcribe", SWALLOWED, ()),
}


@contextlib.contextmanager
def started(night: Path, code: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The program, once it has made the file `busy` or ended; killed if the test leaves it."""
    with subprocess.Popen([sys.executable, "-c", code, *COMMAND, *more], cwd=night, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:  # fmt: skip
        try:
            while not (night / "busy").exists() and run.poll() is None:
                time.sleep(0.02)
            yield run
        finally:
            run.kill()


def test_a_signal_ends_the_command_in_a_sentence(transcribe: Transcribe, night: Path) -> None:
    """Wherever it comes, and whatever a library makes of it; the next run does what is left."""
    for number, (place, (where, how, more)) in enumerate(PLACES.items()):
        which = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        with started(night, BUSY.format(where=where, how=how), *more) as run:
            run.send_signal(which)
            out, err = run.communicate()
        said = f"msfser: stopped by {which.name}; finished work is kept, and the same command continues from there\n"
        assert (run.returncode, out, err) == (128 + which, "", said), place
        (night / "busy").unlink()
        left = {p.name for p in night.iterdir() if p.suffix != ".seen"}
        assert left <= {"corpus", "model", ".utterances.parquet.parts"}, place
    assert transcribe("--log-format", "json").returncode == 3
    assert {name: line["status"] for name, line in read_ledger(night / "utterances.parquet").items()} == {
        "0.wav": "done", "1.wav": "done", "page.mp3": "failed",
    }  # fmt: skip


def test_a_signal_ends_the_wait_for_another_run(night: Path) -> None:
    touch = "import msfser_cli.store.lock as m; acquire = m._acquire; m._acquire"
    with held(night / "utterances.parquet"):
        code = BUSY.format(where=touch, how="return acquire(*arguments)")
        with started(night, code, "--wait", "600", "--log-format", "json") as run:
            time.sleep(0.2)
            run.send_signal(signal.SIGTERM)
            _, err = run.communicate()
        event = json.loads(err)
        assert (run.returncode, event["event"], event["exit_code"]) == (143, "stopped", 143)
        assert (night / ".utterances.parquet.lock").exists()


def test_a_second_signal_ends_the_command_at_once(transcribe: Transcribe, night: Path) -> None:
    """While a model that swallowed the first goes on."""
    how = f"{SWALLOWED}\n    Path('swallowed').touch()\n    time.sleep(30)"
    with started(night, BUSY.format(where="import msfser_doubles.transcriber as m; m.Double.transcribe", how=how)) as run:
        run.send_signal(signal.SIGTERM)
        while not (night / "swallowed").exists():
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate()
    assert (run.returncode, out, err) == (128 + signal.SIGINT, "", "")
    assert transcribe().returncode == 3
    assert len(read_ledger(night / "utterances.parquet")) == 3


# Where there is nobody to tell, and settings that are none


@pytest.mark.slow
@pytest.mark.parametrize(("where", "code"), [
    (">&- 2>&-", 3), ("<&- >&- 2>&-", 3), ("2>&-", 3), ("2>/dev/full", 3), (">/dev/full", 7), (">/dev/full 2>/dev/full", 7),
])  # fmt: skip
def test_the_work_is_done_whoever_listens(night: Path, where: str, code: int) -> None:
    line = shlex.join([sys.executable, "-c", MAIN, *COMMAND, "--out", "utterances.parquet", "--json"])
    done = subprocess.run(["sh", "-c", f"{line} {where}"], cwd=night, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "a bug" not in done.stderr
    assert len(read_ledger(night / "utterances.parquet")) == 3


@pytest.mark.parametrize(("content", "says"), [
    (b"wait = [1]", "wait does not take a list"), (b"redo = 2", "not a valid boolean"), (b"beam-size = 1.5", "not a valid int"),
    (b"pause = 1979-05-27", "pause does not take a date"), (b'language = ["en"]', "language does not take a list"),
    (b"root = 3", "corpus root 3"),
])  # fmt: skip
def test_a_value_in_the_configuration_is_checked_as_one_on_the_line(
    transcribe: Transcribe, night: Path, content: bytes, says: str
) -> None:
    (night / "msfser.toml").write_bytes(content)
    done = transcribe("--out", "utterances.parquet")
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_a_configuration_may_begin_as_windows_writes_it(transcribe: Transcribe, night: Path) -> None:
    (night / "msfser.toml").write_bytes(b'\xef\xbb\xbflanguage = "de"\r\nredo = true\r\n')
    assert transcribe("--out", "utterances.parquet").returncode == 3


def test_a_setting_that_is_not_unicode_is_refused(transcribe: Transcribe, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSFSER_LANGUAGE", "\udcff")
    done = transcribe("--out", "utterances.parquet")
    assert (done.returncode, "language must be in Unicode" in done.stderr) == (2, True), done.stderr

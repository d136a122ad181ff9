"""The batch loop, with backends that are plug-ins of a third party, on real files and real tables."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile as sf

from kit.reporters import Watcher
from kit.sounds import RATE, speak, tone
from msfser_cli.errors import ModelError, ResourceError, Stopped, TableError, UsageError
from msfser_cli.runs import ahead, chain, runner, task
from msfser_cli.runs.engines import serial
from msfser_cli.runs.runner import Destination, Summary
from msfser_cli.runs.source import Item, require_languages, source_of
from msfser_cli.runs.stopping import stop_on_signals
from msfser_cli.runs.task import Task
from msfser_cli.schemas import LedgerLine
from msfser_cli.settings import build
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store import media, seen
from msfser_cli.store.audio import Audio, decode
from msfser_cli.store.ledger import read_ledger

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("doubles")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three recordings that speak, one silent, one that is no audio, one at which the recogniser fails."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, name in enumerate(("a.wav", "b.wav", "c.wav")):
        speak(folder / name, 3.0 + number, 0.1 + 0.1 * number)
    speak(folder / "silent.wav", 2.0, 0.0)
    speak(folder / "bad.wav", 2.0, 0.5)
    (folder / "page.mp3").write_text("<html>not here</html>")
    return folder


def plan(*stages: str, **values: Any) -> chain.Chain:
    own: dict[str, dict[str, Any]] = {
        "transcribe": {"transcriber": "double", "model": "whisper-base"},
        "embed": {"acoustic_encoder": "double", "text_encoder": "double"},
    }
    return chain.plan({stage: build(stage, {**own.get(stage, {}), **values}) for stage in stages})


def transcribe(corpus: Path, out: Path, watcher: Watcher | None = None, *, redo: bool = False, retry: bool = False,
               prune: bool = False, **values: Any) -> Summary:  # fmt: skip
    _, source = source_of("transcribe", [str(corpus)], None)
    destination = Destination(str(out), redo=redo, retry_failed=retry, prune=prune)
    return runner.run(plan("transcribe", **values), source, destination, watcher or Watcher())


def follow(command: str, table: Path, out: Path, watcher: Watcher | None = None, root: Path | None = None,
           *, prune: bool = False) -> Summary:  # fmt: skip
    stages, source = source_of(command, [str(table)], root)
    return runner.run(plan(*stages), source, Destination(str(out), prune=prune), watcher or Watcher())


def test_every_recording_ends_as_rows_or_as_a_reason(corpus: Path, tmp_path: Path) -> None:
    summary = transcribe(corpus, tmp_path / "u.parquet")
    assert (summary.recordings, summary.done, summary.no_speech, summary.failed, summary.unchanged) == (6, 3, 1, 2, 0)
    ledger = {r["recording_id"]: r for r in pl.read_parquet(tmp_path / "u.recordings.parquet").iter_rows(named=True)}
    assert {k: (v["status"], v["reason"]) for k, v in ledger.items()} == {
        "a.wav": ("done", None), "b.wav": ("done", None), "c.wav": ("done", None), "silent.wav": ("no_speech", None),
        "bad.wav": ("failed", "backend_error"), "page.mp3": ("failed", "not_audio"),
    }  # fmt: skip
    assert ledger["bad.wav"]["detail"] == (
        "the transcriber double failed on this recording (RuntimeError: the double was told to fail)"
    )
    table = pl.read_parquet(tmp_path / "u.parquet")
    assert table.group_by("recording_id").len().sort("recording_id")["len"].to_list() == [
        ledger[name]["utterances"] for name in ("a.wav", "b.wav", "c.wav")
    ]
    assert summary.utterances == len(table) == summary.published["utterances"]
    assert summary.audio_seconds == pytest.approx(3 + 4 + 5 + 2 + 2)


def test_what_is_to_be_known_of_a_recording_is_in_its_ledger_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(path: Path, output: Path | None, **how: Any) -> Audio:
        audio = decode(path, output, **how)
        audio.notes += [f"a note on {path.name}", "and another"]
        return audio

    monkeypatch.setattr(media, "decode", noted)
    out = tmp_path / "u.parquet"
    summary = transcribe(corpus, out)
    notes = {name: line["note"] for name, line in read_ledger(out).items()}
    heard = {name for name, line in read_ledger(out).items() if line["duration"] is not None}
    assert notes == {name: f"a note on {Path(name).name}; and another" if name in heard else None for name in notes}
    assert summary.noted == len(heard) >= 4
    follow("emphasize", out, tmp_path / "e.parquet")
    assert {name: line["note"] for name, line in read_ledger(tmp_path / "e.parquet").items()} == notes


def test_want_of_memory_is_not_held_against_a_recording(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any) -> None:
        raise ImportError("libsomething.so: failed to map segment from shared object")

    out = tmp_path / "u.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("msfser_cli.stages.recogniser.transcribe", short)
        with pytest.raises(ResourceError, match=r"a\.wav: not enough memory \(libsomething"):
            transcribe(corpus, out)
    assert transcribe(corpus, out).done == 3


def test_another_corpus_does_not_replace_the_rows_of_the_first(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    transcribe(corpus, out)
    before = out.read_bytes()
    shutil.copytree(corpus, tmp_path / "other")
    with pytest.raises(UsageError, match=f"made from {corpus}, not from {tmp_path / 'other'}"):
        transcribe(tmp_path / "other", out)
    assert out.read_bytes() == before
    _, source = source_of("transcribe", [str(tmp_path / "other")], tmp_path / "other")
    assert runner.run(plan("transcribe"), source, Destination(str(out), moved=True), Watcher()).unchanged == 6


def test_a_dry_run_makes_no_folder(corpus: Path, tmp_path: Path) -> None:
    _, source = source_of("transcribe", [str(corpus)], None)
    todo, gone = runner.pending(plan("transcribe"), source, Destination(str(tmp_path / "new" / "u.parquet")))
    assert (len(todo), gone) == (6, [])
    assert not (tmp_path / "new").exists()


def test_a_head_scores_only_the_vectors_that_it_knows(corpus: Path) -> None:
    _, source = source_of("predict", [str(corpus)], None)
    trained = "on the acoustic vectors of whisper:Systran/faster-whisper-base@.*, but the table has those of double"
    with pytest.raises(ModelError, match=trained):
        runner.pending(plan("transcribe", "emphasize", "describe", "embed", "predict"), source, Destination("s.parquet"))


def test_a_model_that_cannot_be_loaded_is_a_model_error(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"not a model")
    chosen = plan("transcribe", transcriber="faster-whisper", model=str(tmp_path / "model"))
    with pytest.raises(ModelError, match="faster-whisper cannot load this model"):
        chosen.load()
    with pytest.raises(UsageError, match="'klingon' is not a language"):
        plan("transcribe", transcriber="faster-whisper", language="klingon").load()


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_run_does_nothing_and_touches_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    transcribe(corpus, out)
    before = out.stat().st_mtime_ns, out.stat().st_ino
    summary = transcribe(corpus, out)
    assert (summary.unchanged, summary.done, summary.failed) == (6, 0, 0)
    assert (out.stat().st_mtime_ns, out.stat().st_ino) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is read to know its content, an hour after it was written, on a file system that is believed."""
    now, hash_file, paths = time.time_ns, seen.file_sha256, list[Path]()
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)
    monkeypatch.setattr(seen, "KEEP_CHANGE_TIMES", {seen._file_system(os.path.realpath(tmp_path))})
    monkeypatch.setattr(seen, "file_sha256", lambda path: (paths.append(path), hash_file(path))[1])
    return paths


def test_what_was_seen_is_not_read_again(corpus: Path, tmp_path: Path, reads: list[Path]) -> None:
    out, memory = tmp_path / "u.parquet", tmp_path / ".u.parquet.seen"
    transcribe(corpus, out)
    assert len(reads) == 6
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (out, tmp_path / "u.recordings.parquet")]
    os.utime(corpus / "a.wav")
    for read in (7, 7):  # the touched one, once
        assert transcribe(corpus, out).unchanged == 6
        assert len(reads) == read
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (out, tmp_path / "u.recordings.parquet")] == before
    os.utime(corpus / "a.wav")
    remembered = memory.read_bytes()
    _, source = source_of("transcribe", [str(corpus)], None)
    assert runner.pending(plan("transcribe"), source, Destination(str(out))) == ([], [])
    assert (len(reads), memory.read_bytes()) == (8, remembered)
    assert sorted(p.name for p in tmp_path.iterdir()) == [memory.name, "corpus", out.name, "u.recordings.parquet"]


def test_a_stopped_run_remembers_what_it_saw_and_nothing_remembers_what_is_gone(
    corpus: Path, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "RECORDINGS", 1)
    out = tmp_path / "u.parquet"

    def fail(identity: str) -> None:
        if identity == "c.wav":
            raise ResourceError("enough")

    with pytest.raises(ResourceError):
        transcribe(corpus, out, Watcher(fail))
    first = len(reads)
    assert 4 <= first < 6  # and the next one, looked at ahead, which is forgotten
    transcribe(corpus, out)
    assert first < len(reads) <= 7
    seen = len(reads)
    _, alone = source_of("transcribe", [str(corpus / "a.wav")], corpus)
    runner.run(plan("transcribe"), alone, Destination(str(out)), Watcher())
    (corpus / "b.wav").rename(tmp_path / "b.wav")
    transcribe(corpus, out)
    assert len(reads) == seen
    remembered = pl.read_parquet(tmp_path / ".u.parquet.seen")["recording_id"]
    assert remembered.to_list() == ["a.wav", "bad.wav", "c.wav", "page.mp3", "silent.wav"]


def test_only_what_is_new_or_changed_is_done(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    transcribe(corpus, out)
    speak(corpus / "d.wav", 2.0, 0.3)
    speak(corpus / "a.wav", 6.0, 0.3)
    speak(corpus / "c.wav", 5.0, 0.35)  # as large as it was
    os.utime(corpus / "b.wav")
    watcher = Watcher()
    summary = transcribe(corpus, out, watcher)
    assert (summary.done, summary.unchanged) == (3, 4)
    assert set(watcher.lines) - set(watcher.unchanged) == {"a.wav", "c.wav", "d.wav"}
    table = pl.read_parquet(out)
    assert table["recording_id"].unique().sort().to_list() == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert table.filter(pl.col("recording_id") == "a.wav")["end"].max() > 5


def test_failed_recordings_are_tried_again_only_when_asked(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    transcribe(corpus, out)
    watcher = Watcher()
    assert transcribe(corpus, out, watcher, retry=True).failed == 2
    assert set(watcher.unchanged) == {"a.wav", "b.wav", "c.wav", "silent.wav"}


def test_other_settings_are_refused_until_told_to_redo(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    transcribe(corpus, out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"(?s)pause.*--redo"):
        transcribe(corpus, out, pause=0.3)
    assert out.read_bytes() == before
    assert transcribe(corpus, out, pause=0.3, redo=True).done == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_finished_and_the_next_run_goes_on(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "u.parquet"
    transcribe(corpus, whole)

    def stop(identity: str) -> None:
        if identity == "b.wav":
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.SIG_DFL)  # whoever started the tests in the background may have had it ignored
    try:
        with pytest.raises(Stopped) as stopped:
            transcribe(corpus, out, Watcher(stop))
        assert stopped.value.exit_code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert not out.exists()
    watcher = Watcher()
    transcribe(corpus, out, watcher)
    assert {"a.wav", "b.wav"} <= set(watcher.unchanged)
    assert pl.read_parquet(out).equals(pl.read_parquet(whole))


def test_the_stages_one_by_one_give_what_they_give_together(corpus: Path, tmp_path: Path) -> None:
    stages = ("transcribe", "emphasize", "describe", "embed")
    _, source = source_of("transcribe", [str(corpus)], None)
    runner.run(plan(*stages), source, Destination(str(tmp_path / "all.parquet")), Watcher())
    transcribe(corpus, tmp_path / "0.parquet")
    for i, stage in enumerate(stages[1:]):
        follow(stage, tmp_path / f"{i}.parquet", tmp_path / f"{i + 1}.parquet")
    one, other = pl.read_parquet(tmp_path / "3.parquet"), pl.read_parquet(tmp_path / "all.parquet")
    assert one.equals(other)
    assert one.schema == other.schema
    keep = ["recording_id", "status", "reason", "detail", "size_bytes", "sha256", "duration", "utterances"]
    one, other = (pl.read_parquet(tmp_path / f"{n}.recordings.parquet").select(keep) for n in ("3", "all"))
    assert one.equals(other)


def test_each_row_of_a_split_recording_is_heard_in_its_own_channel(corpus: Path, tmp_path: Path) -> None:
    """Commands that run alone on the table hear what the chain heard: its lineage says how."""
    soft, loud = tone(4.0, 150.0, 0.05), np.concatenate([tone(2.0, 230.0, 0.4), np.zeros(2 * RATE, np.float32)])
    sf.write(corpus / "call.wav", np.stack([soft, loud], 1), RATE, subtype="FLOAT")
    stages = ("transcribe", "emphasize", "describe", "embed")
    _, source = source_of("transcribe", [str(corpus)], None)
    split = chain.plan({**plan(*stages).settings, **plan("transcribe", channels="split").settings})
    runner.run(split, source, Destination(str(tmp_path / "all.parquet")), Watcher())
    transcribe(corpus, tmp_path / "0.parquet", channels="split")
    for i, stage in enumerate(stages[1:]):
        follow(stage, tmp_path / f"{i}.parquet", tmp_path / f"{i + 1}.parquet")
    one, other = pl.read_parquet(tmp_path / "3.parquet"), pl.read_parquet(tmp_path / "all.parquet")
    assert one.equals(other)
    rows = one.filter(pl.col("recording_id") == "call.wav").sort("channel")
    assert rows["utterance_id"].sort().to_list() == [f"call.wav#{i:04d}" for i in range(len(rows))]
    assert rows.group_by("channel", "speaker").len().sort("channel").rows()[0][:2] == (0, "CHANNEL_0")
    loudness = dict(rows.group_by("channel").agg(pl.col("loudness_db").max()).rows())
    assert loudness[1] - loudness[0] == pytest.approx(18, abs=1)
    assert one.filter(pl.col("recording_id") == "a.wav").select("channel", "speaker").unique().rows() == [(0, None)]


def test_rows_follow_their_recordings_to_another_folder(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    corpus.rename(tmp_path / "moved")
    lost = follow("emphasize", tmp_path / "u.parquet", tmp_path / "lost.parquet")
    assert (lost.done, lost.failed) == (0, 5)
    found = follow("emphasize", tmp_path / "u.parquet", tmp_path / "found.parquet", root=tmp_path / "moved")
    assert (found.done, found.no_speech, found.failed) == (3, 1, 2)


def test_a_recording_that_changed_since_is_not_mixed_with_its_old_words(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    speak(corpus / "a.wav", 3.0, 0.2)
    watcher = Watcher()
    follow("emphasize", tmp_path / "u.parquet", tmp_path / "e.parquet", watcher)
    assert watcher.lines["a.wav"].reason == "changed"
    assert "a.wav" not in pl.read_parquet(tmp_path / "e.parquet")["recording_id"]


def test_annotating_without_writing_gives_the_rows_and_the_reasons_of_a_run(corpus: Path, tmp_path: Path) -> None:
    def outcomes(command: str, given: Path) -> dict[str, str | int]:
        stages, source = source_of(command, [str(given)], None)
        found = runner.annotated(plan(*stages), list(source.items))
        return {work.recording.recording_id: work.error.reason if work.error else len(work.rows) for work in found}

    table = tmp_path / "u.parquet"
    transcribe(corpus, table)
    ledger = pl.read_parquet(tmp_path / "u.recordings.parquet")
    run = {line["recording_id"]: line["reason"] or line["utterances"] for line in ledger.iter_rows(named=True)}
    assert outcomes("transcribe", corpus) == run
    assert run["bad.wav"] == "backend_error"
    speak(corpus / "a.wav", 3.0, 0.2)
    (corpus / "bad.wav").unlink()
    rows = {name: 0 if isinstance(of, str) else of for name, of in run.items()}
    assert outcomes("emphasize", table) == rows | {"a.wav": "changed"}


def test_a_signal_ends_annotating_too_whatever_a_model_makes_of_it(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from msfser_doubles.transcriber import Double

    def hiding(*arguments: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except Stopped:
            raise RuntimeError("out of luck") from None

    monkeypatch.setattr(Double, "transcribe", hiding)
    _, source = source_of("transcribe", [str(corpus)], None)
    with pytest.raises(Stopped):
        list(runner.annotated(plan("transcribe"), list(source.items)))


def test_only_rows_that_changed_are_done_again_downstream(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    follow("emphasize", tmp_path / "u.parquet", tmp_path / "e.parquet")
    speak(corpus / "a.wav", 7.0, 0.2)
    transcribe(corpus, tmp_path / "u.parquet")
    watcher = Watcher()
    follow("emphasize", tmp_path / "u.parquet", tmp_path / "e.parquet", watcher)
    assert set(watcher.lines) - set(watcher.unchanged) == {"a.wav"}


def test_a_table_of_the_wrong_stage_is_refused(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    with pytest.raises(TableError, match="a table of transcribe; describe needs a table of emphasize"):
        source_of("describe", [str(tmp_path / "u.parquet")], None)
    stages, _ = source_of("predict", [str(tmp_path / "u.parquet")], None)
    assert stages == ("emphasize", "describe", "embed", "predict")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(TableError, match="msfser did not write"):
        source_of("emphasize", [str(tmp_path / "foreign.parquet")], None)


def test_a_table_without_its_ledger_is_refused(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    (tmp_path / "u.recordings.parquet").unlink()
    with pytest.raises(TableError, match=r"u\.recordings\.parquet"):
        follow("emphasize", tmp_path / "u.parquet", tmp_path / "e.parquet")


def test_what_is_missing_stops_the_run_before_it_begins(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="msfser models fetch nobody/nothing"):
        plan("transcribe", model="nobody/nothing")
    with pytest.raises(UsageError, match="choose one of double, faster-whisper"):
        plan("transcribe", transcriber="ears")
    assert not (tmp_path / "u.parquet").exists()


def test_asking_what_is_pending_does_nothing(corpus: Path, tmp_path: Path) -> None:
    _, source = source_of("transcribe", [str(corpus)], None)
    destination = Destination(str(tmp_path / "u.parquet"))
    todo = ["a.wav", "b.wav", "bad.wav", "c.wav", "page.mp3", "silent.wav"]
    assert runner.pending(plan("transcribe"), source, destination) == (todo, [])
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
    transcribe(corpus, tmp_path / "u.parquet")
    (corpus / "b.wav").unlink()
    shutil.copy(corpus / "a.wav", corpus / "copy.wav")
    _, source = source_of("transcribe", [str(corpus)], None)
    assert runner.pending(plan("transcribe"), source, destination) == (["copy.wav"], ["b.wav"])


def test_what_is_gone_is_counted_and_goes_when_told(corpus: Path, tmp_path: Path) -> None:
    """From the corpus into the first table, and from there into the next."""
    first, second = tmp_path / "u.parquet", tmp_path / "e.parquet"
    transcribe(corpus, first)
    follow("emphasize", first, second)
    (corpus / "b.wav").unlink()
    (corpus / "page.mp3").unlink()
    kept = transcribe(corpus, first)
    assert (kept.recordings, kept.unchanged, kept.gone, kept.pruned) == (4, 4, 2, False)
    assert kept.published["recordings"] == 6
    assert transcribe(corpus, first, prune=True).gone == 2
    assert pl.read_parquet(first)["recording_id"].unique().sort().to_list() == ["a.wav", "c.wav"]
    assert pl.read_parquet(tmp_path / "u.recordings.parquet")["recording_id"].to_list() == [
        "a.wav", "bad.wav", "c.wav", "silent.wav",
    ]  # fmt: skip
    assert transcribe(corpus, first, prune=True).gone == 0
    assert follow("emphasize", first, second).gone == 2
    assert follow("emphasize", first, second, prune=True).published["recordings"] == 4
    assert pl.read_parquet(second)["recording_id"].unique().sort().to_list() == ["a.wav", "c.wav"]


def listed(tmp_path: Path, names: list[str]) -> str:
    """A manifest of these names, whether there are such files or not."""
    (tmp_path / "corpus.csv").write_text("\n".join(["path", *(f"corpus/{name}" for name in names)]))
    return str(tmp_path / "corpus.csv")


def transcribe_manifest(manifest: str, out: Path, **how: Any) -> Summary:
    _, source = source_of("transcribe", [manifest], None)
    return runner.run(plan("transcribe"), source, Destination(str(out), **how), Watcher())


def test_a_segment_beyond_the_end_leaves_the_recording_incomplete_until_it_is_mended(corpus: Path, tmp_path: Path) -> None:
    manifest, out = corpus / "m.csv", tmp_path / "u.parquet"
    manifest.write_text("path,start,end\na.wav,0,1\na.wav,2,9\nb.wav,0,1\nsilent.wav,5,6\n")
    for night in range(2):
        summary = transcribe_manifest(str(manifest), out)
        assert (summary.done, summary.failed, summary.incomplete) == ((2, 1, 1) if night == 0 else (0, 0, 0))
        assert (summary.published["done"], summary.published["failed"], summary.published["incomplete"]) == (2, 1, 1)
    ledger = read_ledger(out)
    assert {name: (line["status"], line["reason"], line["utterances"]) for name, line in ledger.items()} == {
        "a.wav": ("done", "bad_segment", 1), "b.wav": ("done", None, 1), "silent.wav": ("failed", "bad_segment", 0),
    }  # fmt: skip
    assert ledger["a.wav"]["note"] == "1 of 2 segments do not fit the recording of 3.000 s (line 3: 2 s to 9 s) and are left out"
    emphasized = follow("emphasize", out, tmp_path / "e.parquet")
    assert emphasized.published["incomplete"] == 1
    assert read_ledger(tmp_path / "e.parquet")["a.wav"]["note"] == ledger["a.wav"]["note"]
    manifest.write_text("path,start,end\na.wav,0,1\na.wav,2,3\nb.wav,0,1\nsilent.wav,0,1\n")
    summary = transcribe_manifest(str(manifest), out)
    assert (summary.done + summary.no_speech, summary.unchanged, summary.published["incomplete"]) == (2, 1, 0)
    assert read_ledger(out)["a.wav"]["note"] is None


@pytest.mark.parametrize(("tokens", "known", "unknown"), [
    (51_864, "en", "de"), (51_865, "de", "yue"), (51_866, "yue", "xx"),
])
def test_a_language_that_the_model_does_not_know_is_refused_before_the_run(
    tmp_path: Path, tokens: int, known: str, unknown: str
) -> None:
    """A Whisper for English alone has a smaller vocabulary, and one that tells Cantonese apart a larger one."""
    (tmp_path / "model").mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    (tmp_path / "model" / "vocabulary.json").write_text(json.dumps(["x"] * tokens))
    settings = {"model": str(tmp_path / "model")}
    assert chain.plan({"transcribe": build("transcribe", {**settings, "language": known.upper()})}).settings[
        "transcribe"].language == known  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=f"{unknown!r}"):
        chain.plan({"transcribe": build("transcribe", {**settings, "language": unknown})})
    _, source = source_of("transcribe", [listed(tmp_path, ["a.wav"])], None)
    require_languages(chain.plan({"transcribe": build("transcribe", settings)}), source)
    (tmp_path / "corpus.csv").write_text(f"path,language\na.wav,{known}\nb.wav,{unknown if unknown != 'xx' else 'enn'}\n")
    _, source = source_of("transcribe", [str(tmp_path / "corpus.csv")], None)
    with pytest.raises(TableError, match=r"line 3 has the language .*, which the model does not know"):
        require_languages(chain.plan({"transcribe": build("transcribe", settings)}), source)


@pytest.mark.parametrize("language", ["", " ", "xx", "auto", "English and German"])
def test_a_language_that_is_none_is_refused(language: str) -> None:
    with pytest.raises(UsageError, match="is not a language; write a code or a name"):
        chain.plan({"transcribe": build("transcribe", {"language": language})})


def test_a_disk_that_goes_stops_the_run_and_nothing_is_held_against_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after five of forty recordings: these are kept, and the others are done when it is back."""
    monkeypatch.setattr(ahead, "RECORDINGS", 1)
    folder, out, away = tmp_path / "corpus", tmp_path / "u.parquet", tmp_path / "away"
    folder.mkdir()
    names = [f"{i:02d}.wav" for i in range(40)]
    for name in names:
        speak(folder / name, 1.0, 0.1)
    (folder / "02.wav").write_text("not audio, and the disk is well")

    def go(identity: str) -> None:
        if identity == "corpus/04.wav":
            folder.rename(away)

    _, source = source_of("transcribe", [listed(tmp_path, names)], None)
    for night in range(2):
        with pytest.raises(ResourceError, match=r"\d\d recordings in a row failed, .* with missing: .* --max-failed 1"):
            runner.run(plan("transcribe"), source, Destination(str(out)), Watcher(go if night == 0 else lambda identity: None))
        ledger = read_ledger(out)
        failed = [line["reason"] for line in ledger.values() if line["status"] == "failed"]
        assert set(failed) == {"not_audio", "missing"}
        assert 14 <= len(failed) <= 23
        assert len(pl.read_parquet(out)["recording_id"].unique()) == len(ledger) - len(failed)
    away.rename(folder)
    summary = runner.run(plan("transcribe"), source, Destination(str(out)), Watcher())
    assert (summary.done + summary.unchanged, summary.failed) == (40, 0)
    assert summary.published["failed"] == 1


def test_a_table_keeps_the_rows_of_recordings_that_a_disk_has_lost_for_now(tmp_path: Path) -> None:
    folder, out = tmp_path / "corpus", tmp_path / "u.parquet"
    folder.mkdir()
    names = [f"{i:02d}.wav" for i in range(12)]
    for name in names:
        speak(folder / name, 1.0, 0.1)
    manifest = listed(tmp_path, names)
    transcribe_manifest(manifest, out)
    before = pl.read_parquet(out)
    folder.rename(tmp_path / "away")
    with pytest.raises(ResourceError, match="12 recordings in a row failed"):
        transcribe_manifest(manifest, out)
    assert pl.read_parquet(out).equals(before)
    with pytest.raises(ResourceError, match="12 recordings in a row failed"):
        transcribe_manifest(manifest, out, redo=True)
    assert pl.read_parquet(out).equals(before)
    shutil.rmtree(tmp_path / ".u.parquet.parts")
    (tmp_path / "away").rename(folder)
    assert transcribe_manifest(manifest, out).unchanged == 12


@pytest.mark.one_in(3)
@pytest.mark.parametrize("spoil", ["empty", "page", "missing", "silence cut short"])
@pytest.mark.parametrize("first", [True, False])
def test_bad_files_stop_no_run_however_many_they_are(tmp_path: Path, spoil: str, first: bool) -> None:
    """Also when all of them come before the first good one."""
    folder, out = tmp_path / "corpus", tmp_path / "u.parquet"
    folder.mkdir()
    bad, good = ([f"{letter}{i:02d}.wav" for i in range(12)] for letter in ("ab" if first else "ba"))
    for name in bad:
        if spoil == "silence cut short":
            speak(folder / name, 1.0, 0.1)
            os.truncate(folder / name, 20_000)
        elif spoil != "missing":
            (folder / name).write_text("<html>" if spoil == "page" else "")
    for name in good:
        speak(folder / name, 1.0, 0.1)
    summary = transcribe_manifest(listed(tmp_path, bad + good), out)
    assert (summary.done, summary.failed) == (12, 12)
    assert {name for name, line in read_ledger(out).items() if line["status"] == "failed"} == {f"corpus/{name}" for name in bad}


def test_a_back_end_that_fails_on_all_stops_the_run_and_some_may_be_allowed_to(tmp_path: Path) -> None:
    folder, out = tmp_path / "corpus", tmp_path / "u.parquet"
    folder.mkdir()
    for i in range(20):
        speak(folder / f"{i:02d}.wav", 1.0, 0.5)
        (folder / f"{i:02d}x.wav").write_text("")  # says nothing of the back end
    with pytest.raises(ResourceError, match="backend_error: the transcriber double failed"):
        transcribe(folder, out)
    summary = transcribe_manifest(listed(tmp_path, [f"{i:02d}.wav" for i in range(20)]), tmp_path / "v.parquet", max_failed=1.0)
    assert summary.failed == 20


def test_memory_that_runs_out_twice_over_one_recording_is_that_recordings_failure(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.parquet"
    speak(corpus / "b2.wav", 2.0, 0.25)
    with pytest.raises(ResourceError, match=r"b2\.wav: not enough memory \(CUDA .* msfser skips it"):
        transcribe(corpus, out)
    summary = transcribe(corpus, out)
    assert (summary.done, summary.no_speech, summary.failed, summary.unchanged) == (1, 1, 3, 2)
    assert read_ledger(out)["b2.wav"]["reason"] == "out_of_memory"
    assert transcribe(corpus, out).unchanged == 7
    assert transcribe(corpus, out, retry=True).failed == 3
    speak(corpus / "b2.wav", 2.0, 0.3)
    assert transcribe(corpus, out).done == 1


def test_a_row_that_does_not_fit_is_the_back_ends_failure(corpus: Path, tmp_path: Path) -> None:
    speak(corpus / "b2.wav", 2.0, 0.75)
    assert transcribe(corpus, tmp_path / "u.parquet").done == 3
    line = read_ledger(tmp_path / "u.parquet")["b2.wav"]
    assert line["reason"] == "backend_error"
    assert line["detail"].startswith("the transcriber double failed on this recording (ValueError: the column 'language' does")


def test_a_vector_of_another_length_is_the_encoders_failure(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msfser_doubles import encoder

    encode = encoder.Double.encode

    def longer(self: Any, items: Any) -> np.ndarray:
        vectors = encode(self, items)
        return np.hstack([vectors, vectors]) if vectors[0, 0] > 70_000 else vectors

    monkeypatch.setattr(encoder.Double, "encode", longer)
    monkeypatch.setattr(ahead, "RECORDINGS", 1)
    _, source = source_of("transcribe", [str(corpus)], None)
    chosen = plan("transcribe", "emphasize", "describe", "embed")
    assert runner.run(chosen, source, Destination(str(tmp_path / "e.parquet")), Watcher()).done == 2
    assert "'acoustic_vector' holds vectors of 2 numbers, not 4" in read_ledger(tmp_path / "e.parquet")["c.wav"]["detail"]


def test_a_relative_path_holds_where_a_back_end_changes_the_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading may take the program elsewhere while the next recording is opened and decoded beside the output."""
    monkeypatch.chdir(tmp_path)
    _, source = source_of("transcribe", ["corpus"], None)
    chosen = plan("transcribe")
    load, opened = chain.Chain.load, threading.Event()
    decoded = media.decode

    def decode(path: Path, output: Path | None, **how: Any) -> Audio:
        if path.name == "b.wav":
            opened.wait()
        return decoded(path, output, **how)

    def elsewhere(self: chain.Chain) -> Any:
        (tmp_path / "elsewhere").mkdir()
        os.chdir(tmp_path / "elsewhere")
        try:
            opened.set()
            deadline = time.monotonic() + 60
            while not ready.is_set() and time.monotonic() < deadline:
                time.sleep(0.01)
            return load(self)
        finally:
            os.chdir(tmp_path)

    ready = threading.Event()

    def prepared(*arguments: Any) -> Any:
        result = prepare(*arguments)
        if result.line.recording_id == "b.wav":
            ready.set()
        return result

    prepare = task.prepare
    monkeypatch.setattr(serial, "prepare", prepared)
    monkeypatch.setattr(media, "decode", decode)
    monkeypatch.setattr(chain.Chain, "load", elsewhere)
    summary = runner.run(chosen, source, Destination("u.parquet"), Watcher())
    assert (summary.done, summary.failed) == (3, 2)
    assert set(read_ledger("u.parquet")) == {"a.wav", "b.wav", "c.wav", "silent.wav", "bad.wav", "page.mp3"}


def test_few_failures_and_those_of_the_table_before_stop_nothing(tmp_path: Path) -> None:
    folder, first = tmp_path / "corpus", tmp_path / "u.parquet"
    folder.mkdir()
    speak(folder / "z.wav", 1.0, 0.1)
    for i in range(9):
        (folder / f"{i}.wav").write_text("")
    assert transcribe(folder, first).failed == 9
    for i in range(9, 15):
        (folder / f"{i}.wav").write_text("")
    _, source = source_of("transcribe", [str(folder)], None)
    tolerant = Destination(str(first), redo=True, max_failed=1.0)
    assert runner.run(plan("transcribe"), source, tolerant, Watcher()).failed == 15
    assert follow("emphasize", first, tmp_path / "e.parquet").failed == 15


def test_what_a_run_was_not_asked_for_is_not_gone(corpus: Path, tmp_path: Path) -> None:
    transcribe(corpus, tmp_path / "u.parquet")
    _, source = source_of("transcribe", [str(corpus / "a.wav")], corpus)
    destination = Destination(str(tmp_path / "u.parquet"), prune=True)
    summary = runner.run(plan("transcribe"), source, destination, Watcher())
    assert (summary.recordings, summary.gone, summary.published["recordings"]) == (1, 0, 6)


def test_a_run_outside_of_the_main_thread_works_without_signals(corpus: Path, tmp_path: Path) -> None:
    results: list[Summary] = []
    thread = threading.Thread(target=lambda: results.append(transcribe(corpus, tmp_path / "u.parquet")))
    thread.start()
    thread.join()
    assert results[0].done == 3


@pytest.mark.parametrize("by", [1, -1], ids=["grows", "shrinks"])
def test_a_file_that_is_written_to_while_it_is_read_waits_for_the_next_run(corpus: Path, tmp_path: Path, by: int) -> None:
    path, out = corpus / "b.wav", tmp_path / "u.parquet"
    begun, ended = threading.Event(), threading.Event()

    def change() -> None:
        while not ended.wait(0.001):
            os.truncate(path, path.stat().st_size + by)
            begun.set()

    writer = threading.Thread(target=change)
    writer.start()
    try:
        begun.wait()
        assert transcribe(corpus, out).failed == 3
    finally:
        ended.set()
        writer.join()
    assert (read_ledger(out)["b.wav"]["status"], read_ledger(out)["b.wav"]["reason"]) == ("failed", "changed")
    speak(path, 3.0, 0.1)
    transcribe(corpus, out)
    assert (read_ledger(out)["b.wav"]["status"], read_ledger(out)["b.wav"]["duration"]) == ("done", 3.0)


def test_a_file_that_is_replaced_between_two_looks_waits_for_the_next_run(corpus: Path, tmp_path: Path) -> None:
    out, decode = tmp_path / "u.parquet", media.decode
    speak(tmp_path / "other.wav", 5.0, 0.1)

    def late(path: Path, output: Path | None, **how: Any) -> Audio:
        if path.name == "a.wav":
            (tmp_path / "other.wav").replace(path)
        return decode(path, output, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "decode", late)
        assert transcribe(corpus, out).failed == 3
    assert read_ledger(out)["a.wav"]["reason"] == "changed"
    transcribe(corpus, out)
    assert read_ledger(out)["a.wav"]["duration"] == 5.0


def item(name: str) -> Item:
    return Item(Recording(name, Path(name)))


def test_who_leaves_early_does_not_wait_for_the_recording_that_is_prepared() -> None:
    go_on = threading.Event()

    def prepare(one: Task) -> Task:
        if one.line.recording_id != "first":
            go_on.wait()
        return one

    tasks = [Task(item(name), LedgerLine(name), Work(item(name).recording)) for name in ("first", "second", "third")]
    prepared = ahead.ahead(tasks, prepare)
    assert next(prepared).item.recording.recording_id == "first"
    prepared.close()
    go_on.set()

"""The folder of an export: its names, what it replaces, what it keeps, and what a stop leaves."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from kit.program import Nursery, Program, wait_for
from kit.scored import FORMATS, scored_row, write_scores
from msfser_cli.errors import OutputHeldError, TableError, UsageError
from msfser_cli.exports.export import Exported, export
from msfser_cli.exports.files import MANIFEST
from msfser_cli.exports.format import formats
from msfser_cli.exports.names import stems
from msfser_cli.exports.page.report import report
from msfser_cli.schemas import LedgerLine, columns_through
from msfser_cli.store.lock import held


def a_row(recording: str, word: str = "Hello") -> dict[str, object]:
    return scored_row(recording, 0, [(word, 0.0, 1.5)])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_are_those_of_the_recordings_and_stay_below_the_folder() -> None:
    long, hostile = "x" * 300 + ".wav", "../../etc/./passwd"
    plain = ["show/ep1.mp3", "show/a.mp3", "show/a.wav", "b", "b.mp3", "語.flac"]
    of = stems([*plain, "..", hostile, "/root/x.wav", long, "a//b.wav"])
    assert of["show/ep1.mp3"] == "show/ep1"
    assert (of["show/a.mp3"], of["show/a.wav"]) == ("show/a.mp3", "show/a.wav")
    assert (of["b"], of["b.mp3"]) == ("b", "b.mp3")
    assert of["語.flac"] == "語"
    parts = [part for stem in of.values() for part in stem.split("/")]
    assert not {"", ".", ".."} & set(parts)
    assert max(len(part.encode()) for part in parts) < 230
    assert len(set(of.values())) == len(of)


def test_the_same_table_gives_the_same_bytes_and_its_own_files_are_replaced(tmp_path: Path) -> None:
    scores, every = tmp_path / "x.parquet", formats(",".join(FORMATS))
    write_scores(scores, [a_row("show/a.mp3"), a_row("b.wav")])
    first, second = export(scores, every, tmp_path / "one"), export(scores, every, tmp_path / "two")
    lacking = "2 utterances have no sound in hf-audio: b.wav: the file does not exist (No such file or directory); ..."
    assert first == second == Exported(2, 0, first.files, (), (lacking,))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    write_scores(scores, [a_row("show/a.mp3", "Bye")])
    assert export(scores, every, tmp_path / "one").kept == ()
    assert b"Bye" in (tmp_path / "one" / "show" / "a.srt").read_bytes()


def test_files_of_other_people_and_edited_files_are_kept(tmp_path: Path) -> None:
    scores, out = write_scores(tmp_path / "x.parquet", [a_row("a.mp3"), a_row("b.mp3"), a_row("c.mp3")]), tmp_path / "out"
    out.mkdir()
    (out / "a.srt").write_text("by hand")
    assert export(scores, formats("srt"), out).kept == ("a.srt",)
    (out / "b.srt").write_text("corrected")
    write_scores(scores, [a_row("a.mp3"), a_row("b.mp3", "New"), a_row("c.mp3", "New")])
    assert export(scores, formats("srt"), out).kept == ("a.srt", "b.srt")
    assert [(out / f"{x}.srt").read_text()[-12:] for x in "ab"] == ["by hand", "corrected"]
    assert "New" in (out / "c.srt").read_text()
    assert export(scores, formats("srt"), out, overwrite=True).kept == ()
    assert "New" in (out / "b.srt").read_text()


def test_a_column_that_is_missing_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    columns = tuple(c for c in columns_through("transcribe") if c.name != "words")
    scores = write_scores(tmp_path / "x.parquet", [a_row("a.mp3")], columns=columns)
    with pytest.raises(TableError, match=r"'words', which --to ctm needs; `msfser transcribe` writes it"):
        export(scores, formats("srt,ctm"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(scores, formats("srt"), tmp_path / "out").files == 1


@pytest.mark.parametrize("names", ["", ",", "srt,doc"])
def test_a_format_that_does_not_exist_is_refused(names: str) -> None:
    with pytest.raises(UsageError, match="textgrid"):
        formats(names)


def test_one_export_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "x.parquet", [a_row("a.mp3")])
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out" / MANIFEST), pytest.raises(OutputHeldError):
        export(scores, formats("srt"), tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        export(scores, formats("srt"), tmp_path / "file")


def test_a_line_of_the_manifest_that_was_cut_short_costs_nothing_else(tmp_path: Path) -> None:
    scores, out = write_scores(tmp_path / "x.parquet", [a_row("a.mp3"), a_row("b.mp3")]), tmp_path / "out"
    export(scores, formats("srt"), out)
    with (out / MANIFEST).open("a") as manifest:
        manifest.write('["c.srt", "12')
    write_scores(scores, [a_row("a.mp3", "Bye"), a_row("b.mp3")])
    for _ in range(2):
        assert export(scores, formats("srt"), out).kept == ()
    assert "Bye" in (out / "a.srt").read_text()


@pytest.mark.parametrize("line", ["foo]", '[["a"],1]', '["a.srt"]', "null"])
def test_a_damaged_line_of_the_manifest_costs_nothing(tmp_path: Path, line: str) -> None:
    scores, out = write_scores(tmp_path / "x.parquet", [a_row("a.mp3")]), tmp_path / "out"
    export(scores, formats("srt"), out)
    with (out / MANIFEST).open("ab") as manifest:
        manifest.write(line.encode() + b"\n\xff\n")
    write_scores(scores, [a_row("a.mp3", "Bye")])
    assert export(scores, formats("srt"), out).kept == ()


def test_no_file_takes_the_name_of_another_one(tmp_path: Path) -> None:
    names = ("a.wav", "a.words.wav", "labelstudio.wav", "show.srt/x.wav", "show.wav", "x.srt/y.wav", "x.mp3")
    scores, out = write_scores(tmp_path / "x.parquet", [a_row(name, name) for name in names]), tmp_path / "out"
    done = export(scores, formats("srt,srt-words,json,labelstudio"), out)
    assert done.kept == ()
    found = {name for name in files(out) if name != MANIFEST}
    assert len(found) == done.files == 3 * 7 + 2
    assert {"a.words.srt", "a.words.wav.srt", "labelstudio.json", "labelstudio.wav.json", "show.wav.srt", "x.mp3.srt"} <= found
    assert b"labelstudio.wav" in (out / "labelstudio.wav.json").read_bytes()
    report(scores, out, audio="none")
    assert len(list((out / "recordings").rglob("*.html"))) == 7


@pytest.mark.process
def test_a_killed_export_goes_on_and_takes_its_own_files_for_its_own(nursery: Nursery, tmp_path: Path) -> None:
    scores, out = tmp_path / "x.parquet", tmp_path / "out"
    write_scores(scores, [a_row(f"{i:04d}.mp3") for i in range(600)])
    for least in (5, 100, 300):
        run = nursery.start(["export", str(scores), "--to", "srt,eaf", "--out", str(out)], tmp_path, tmp_path / "said")
        wait_for(lambda least=least: out.exists() and len(list(out.iterdir())) >= least)
        run.signal(signal.SIGKILL)
        assert run.ended() == -signal.SIGKILL
    write_scores(scores, [a_row(f"{i:04d}.mp3", "Bye") for i in range(600)])
    assert export(scores, formats("srt,eaf"), out).kept == ()
    assert len(files(out)) == 1201
    assert all(b"Bye" in content for name, content in files(out).items() if name != MANIFEST)


@pytest.mark.process
def test_the_command_says_what_it_did(msfser: Program, tmp_path: Path) -> None:
    failed = LedgerLine("c.mp3", "failed", "empty", "no bytes")
    lines = [LedgerLine("a.mp3", utterances=1), LedgerLine("b.mp3", "no_speech"), failed]
    write_scores(tmp_path / "x.parquet", [a_row("a.mp3")], lines)
    command = ["export", "x.parquet", "--to", "SRT, csv", "--out", "out", "--json"]
    done = msfser(tmp_path, *command, code=0)
    assert json.loads(done.stdout) == {"out": "out", "recordings": 1, "without_rows": 2, "files": 2, "kept": [], "lacking": []}
    assert "1 recording, 2 files" in done.stderr
    (tmp_path / "out" / "a.srt").write_text("corrected")
    done = msfser(tmp_path, *command, code=3)
    assert json.loads(done.stdout)["kept"] == ["a.srt"]
    assert "--overwrite replaces them" in done.stderr

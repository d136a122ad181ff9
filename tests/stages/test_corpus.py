from __future__ import annotations

import io
import os
from pathlib import Path

import polars as pl
import pytest

from msfser_cli.errors import TableError, UsageError
from msfser_cli.stages.corpus import find
from msfser_cli.stages.transcribe import Segment


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for name in ("b.wav", "a.MP3", "deep/er/c.flac", "notes.txt", "._b.wav", "deep/video.mkv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def ids(found: object) -> list[str]:
    return [r.recording_id for r in found.recordings]  # type: ignore[attr-defined]


def test_a_folder_is_searched_and_ids_are_paths_below_it(corpus: Path) -> None:
    found = find([str(corpus)])
    assert ids(found) == ["a.MP3", "b.wav", "deep/er/c.flac", "deep/video.mkv"]
    assert found.root == corpus
    assert found.ignored == 2


@pytest.mark.parametrize(
    "hidden",
    [".AppleDouble", ".Trashes/501", ".git", "@eaDir", "$RECYCLE.BIN", "__MACOSX", "lost+found", "System Volume Information"],
)
def test_hidden_folders_are_counted_and_searched_only_when_named(corpus: Path, hidden: str) -> None:
    for name in ("b.wav", "deep/c.wav"):
        path = corpus / "deep" / hidden / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = find([str(corpus)])
    assert ids(found) == ["a.MP3", "b.wav", "deep/er/c.flac", "deep/video.mkv"]
    assert found.ignored == 3
    assert ids(find([str(corpus / "deep" / hidden)])) == ["b.wav", "deep/c.wav"]


def test_files_share_the_folder_above_them(corpus: Path) -> None:
    assert ids(find([str(corpus / "b.wav"), str(corpus / "deep" / "er" / "c.flac")])) == ["b.wav", "deep/er/c.flac"]
    assert ids(find([str(corpus / "b.wav"), str(corpus / "b.wav")])) == ["b.wav"]
    assert ids(find([str(corpus / "notes.txt")])) == ["notes.txt"]


def test_a_root_makes_ids_the_same_wherever_the_search_starts(corpus: Path) -> None:
    assert ids(find([str(corpus / "deep")], root=corpus)) == ["deep/er/c.flac", "deep/video.mkv"]
    with pytest.raises(UsageError, match="--root"):
        find([str(corpus)], root=corpus / "deep")


def test_paths_come_from_stdin(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = f"{corpus / 'b.wav'}\n\n{corpus / 'gone.wav'}\n".encode() + os.fsencode(corpus) + b"/\xff.wav\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
    assert ids(find(["-"])) == ["\\xff.wav", "b.wav", "gone.wav"]


def test_what_is_not_there_or_empty_is_a_usage_error(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such file"):
        find([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no audio or video files"):
        find([str(tmp_path / "empty")])


def test_no_two_recordings_share_an_id(corpus: Path) -> None:
    manifest = corpus / "list.csv"
    manifest.write_text(f"path,start,end\nb.wav,0,1\n./b.wav,1,2\n{corpus}/deep/../b.wav,2,3\n")
    (recording,) = find([str(manifest)]).recordings
    assert (recording.recording_id, len(recording.segments)) == ("b.wav", 3)
    (corpus / "\\xff.wav").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(corpus) + b"/\xff.wav")).write_bytes(b"x")
    with pytest.raises(UsageError, match="both would be"):
        find([str(corpus)])


def test_a_segment_that_ends_before_it_starts_is_named(corpus: Path) -> None:
    manifest = corpus / "list.csv"
    manifest.write_text("path,start,end\nb.wav,0,1\nb.wav,2,1.5\n")
    with pytest.raises(TableError, match="row 2: it ends at"):
        find([str(manifest)])
    manifest.write_text("Path,path\nb.wav,b.wav\n")
    with pytest.raises(TableError, match="cannot be read"):
        find([str(manifest)])


ROWS = {
    "path": ["b.wav", "b.wav", "a.MP3"],
    "start": [2.5, 0.0, None],
    "end": [4.0, 2.5, None],
    "text": ["Who?", None, None],
    "speaker": ["7", "8", None],
    "language": ["en", "", None],
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_manifest_in_any_format_gives_the_same(corpus: Path, suffix: str) -> None:
    path, frame = corpus / f"manifest.{suffix}", pl.DataFrame(ROWS)
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    plain, cut = find([str(path)]).recordings
    assert (plain.recording_id, plain.path, plain.segments) == ("a.MP3", corpus / "a.MP3", ())
    assert cut.segments == (Segment(2.5, 4.0, "Who?", "7", "en"), Segment(0.0, 2.5, None, "8", None))


def test_the_key_of_a_recording_is_its_content_and_its_segments(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path,start,end\nb.wav,0,1\na.MP3,,\n")
    plain, cut = find([str(corpus / "m.csv")]).recordings
    assert plain.input_key("abc") == "abc"
    assert cut.input_key("abc") not in ("abc", cut.input_key("abd"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name,start\nb.wav,1\n", "no path column"),
        ("path,start\nb.wav,soon\n", "row 1: start is 'soon'"),
        ("path,start\nb.wav,-1\n", "row 1: start is '-1'"),
        ("path\n", "no rows"),
        ("path,text\n,hello\n", "row 1 has no path"),
        ("", "cannot be read"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_row(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(TableError, match=says):
        find([str(tmp_path / "m.csv")])


def test_a_manifest_stands_alone(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path\nb.wav\n")
    with pytest.raises(UsageError, match="only input"):
        find([str(corpus / "m.csv"), str(corpus / "b.wav")])

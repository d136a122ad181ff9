from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import unicodedata
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msfser_cli.errors import TableError, UsageError
from msfser_cli.runs.corpus import find
from msfser_cli.stages.work import Segment
from msfser_cli.tabular.times import seconds


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


def test_a_manifest_may_name_files_above_its_folder_if_the_root_is_above_them(corpus: Path) -> None:
    lists = corpus / "lists"
    lists.mkdir()
    (lists / "m.csv").write_text("path\n../b.wav\n../deep/er/c.flac\n")
    with pytest.raises(UsageError, match="name a folder above it with --root"):
        find([str(lists / "m.csv")])
    found = find([str(lists / "m.csv")], root=corpus)
    assert (ids(found), found.notes) == (["b.wav", "deep/er/c.flac"], ())
    (lists / "m.csv").write_text("path\nb.wav\n")  # below the root, as in the ids
    assert ids(find([str(lists / "m.csv")], root=corpus)) == ["b.wav"]


def test_a_time_of_minus_zero_is_zero(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path,start,end\nb.wav,-0.0,1\n")
    assert str(find([str(corpus / "m.csv")]).recordings[0].segments[0].start) == "0.0"


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
    with pytest.raises(UsageError, match="both would have the id"):
        find([str(corpus)])


def test_a_segment_that_ends_before_it_starts_is_named(corpus: Path) -> None:
    manifest = corpus / "list.csv"
    manifest.write_text("path,start,end\nb.wav,0,1\nb.wav,2,1.5\n")
    with pytest.raises(TableError, match="line 3: the segment ends at"):
        find([str(manifest)])
    manifest.write_text("Path,path\nb.wav,b.wav\n")
    with pytest.raises(TableError, match="'Path' or 'path' may each be the path"):
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
        ("path,start\nb.wav,soon\n", "line 2 has 'soon' under 'start', which is not a time"),
        ("path,start\nb.wav,-1\n", "line 2 has '-1' under 'start', which is not a time"),
        ("path\n", "no rows"),
        ("path,text\n,hello\n", "line 2 has no path"),
        ("", "is empty"),
        ("path,language\na.wav,en\na.wav,Klingonese\n", "line 3 has 'Klingonese' under 'language', which is not a language"),
        ("path\nhttps://x.org/a.wav\n", "line 2 has 'https://x.org/a.wav' under 'path', which is a network address"),
        ("path\ns3://x/a.wav\n", "which is a network address"),
        # Columns that may be times.
        ("path,offset\na.wav,1\n", "'offset' may be the start or the end of a segment"),
        ("path,start,offset\na.wav,1,2\n", "'offset' may be the start or the end of a segment"),
        ("path,start,begin,end\na.wav,1,1,2\n", "'start' or 'begin' may each be the start"),
        ("path,start_frame,end_frame\na.wav,1,2\n", "'start_frame' looks like a time"),
        ("path,from,to\na.wav,1,2\n", "'from' looks like a time"),
        ("path,start,time\na.wav,1,2\n", "'time' looks like a time"),
        ("path,start,minutes\na.wav,1,2\n", "'minutes' looks like a time"),
        *((f"path;{start};{end}\na.wav;0,5;2\n", f"{start!r} looks like a time") for start, end in (
            ("von", "bis"), ("Anfang", "Ende"), ("début", "fin"), ("inicio", "final"), ("in", "out"), ("t0", "t1"))),
        ("path,start,end\na.wav,2,2\n", "line 2: the segment ends at 2 s, not after its start"),
        ("path,start,end\na.wav,1970-01-01 00:00:01,1970-01-01 00:00:02\n", "line 2 has '1970-01-01 00:00:01' under 'start'"),
        # A recording named twice.
        ("path,foo\na.wav,1\nb.wav,1\na.wav,2\n",
         "a.wav is named twice without times (line 2, line 4); columns not used: 'foo'; name each recording once"),
        ("path,duration\na.wav,1\na.wav,2\n", "a.wav is named twice without times"),
        ("path,speaker\na.wav,A\n./a.wav,B\n", "a.wav is named twice without times"),
        ("path,start,end\na.wav,,\na.wav,nan,NaT\n", "a.wav is named twice without times"),
        # Encodings and separators.
        ("path;start;end\na.wav;1,5;x\n", "line 2 has 'x' under 'end'"),
        ("path\tstart\na.wav\t1,234\n", "whose comma may separate decimals or thousands"),
        ("path,start\na.wav,\"1,5\"\n", "line 2 has '1,5' under 'start'"),
        ("path,start\na.wav,1,2\n", "line 2 has 3 cells, but the header has 2"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_row(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(TableError, match=re.escape(says)):
        find([str(tmp_path / "m.csv")])


def test_a_manifest_stands_alone(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path\nb.wav\n")
    with pytest.raises(UsageError, match="a table must be the only input"):
        find([str(corpus / "m.csv"), str(corpus / "b.wav")])


# Tables as other tools write them.

def segments(manifest: Path) -> tuple[Segment, ...]:
    (recording,) = find([str(manifest)]).recordings
    return recording.segments


@pytest.mark.parametrize(("header", "row"), [
    ("path,start,end", "b.wav,0.5,2.25"),
    ("path,start,duration", "b.wav,0.5,1.75"),
    ("path,end,duration", "b.wav,2.25,1.75"),
    ("path,onset,offset", "b.wav,0.5,2.25"),
    ("path,onset,offset,duration", "b.wav,0.5,2.25,1.75"),
    ("audio_filepath,offset,duration", "b.wav,0.5,1.75"),
    ("file,offset,end", "b.wav,0.5,2.25"),
    ("filename,start_time,end_time", "b.wav,0.5,2.25"),
    ("File Name,Begin,End", "b.wav,0.5,2.25"),
    ("wav,tmin,tmax", "b.wav,0.5,2.25"),
    ("path,start_s,end_s", "b.wav,0.5,2.25"),
    ("path,start_ms,end_ms", "b.wav,500,2250"),
    ("path,startMs,durationMs", "b.wav,500,1750"),
    ("path,Start (ms),End (s)", "b.wav,500,2.25"),
    ("path,Begin Time [s],End Time [s]", "b.wav,0.5,2.25"),
    ("path,segment_start,segment_end", "b.wav,0.5,2.25"),
    ("path,start_offset,end_offset", "b.wav,0.5,2.25"),
    ("file,start,end", "b.wav,0 days 00:00:00.500000000,0 days 00:00:02.25"),
    ("path,start,end", "b.wav,00:00:00.5,0:02.25"),
    ("path,start,end", 'b.wav,"00:00:00,500","00:00:02,250"'),
    ("path,start,end", "b.wav,PT0.5S,PT2.25S"),
    ("path,start,end", "b.wav,500 ms,2.25s"),
    ("path,start,end,length_frames", "b.wav,0.5,2.25,175"),
    ("path,start,end,duration", "b.wav,0.5,2.25,3600"),
    ("path , start, end ", " b.wav , 0.5 ,2.25 "),
    ("path,start,end,", "b.wav,0.5,2.25,"),
    ("path,start,end", "b.wav,0.5,2.25,,"),
])
def test_times_are_found_by_the_names_that_tools_give_them(corpus: Path, header: str, row: str) -> None:
    (corpus / "m.csv").write_text(f"{header}\n{row}\n")
    assert segments(corpus / "m.csv") == (Segment(0.5, 2.25),)
    assert segments(corpus / "m.csv")[0].place == "line 2"


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "NaT", "NA", "None", "null", "<NA>"])
def test_a_missing_time_is_the_recording_s_own(corpus: Path, missing: str) -> None:
    (corpus / "m.csv").write_text(f"file,start,end\nb.wav,1,{missing}\na.MP3,{missing},{missing}\n")
    whole, cut = find([str(corpus / "m.csv")]).recordings
    assert (whole.segments, cut.segments) == ((), (Segment(1.0, None),))


DIALECTS = {
    "csv": {}, "tsv": {"separator": "\t"}, "semicolons": {"separator": ";", "comma": True},
    "semicolons with points": {"separator": ";"}, "unicode text": {"separator": "\t", "encoding": "utf-16", "comma": True},
    "utf-16-be": {"encoding": "utf-16-be", "bom": b"\xfe\xff"}, "utf-16 without bom": {"encoding": "utf-16-le"},
    "bom and crlf": {"bom": b"\xef\xbb\xbf", "ending": "\r\n"}, "blanks": {"pad": " "}, "sep=": {"first": "sep=,\n"},
    "empty lines": {"first": "\n\n", "ending": "\n\n"}, "trailing separators": {"trail": ","},
}  # fmt: skip


def write_dialect(
    path: Path, rows: list[dict[str, str]], *, separator: str = ",", encoding: str = "utf-8", bom: bytes = b"",
    ending: str = "\n", comma: bool = False, pad: str = "", first: str = "", trail: str = "",
) -> None:  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=trail + ending)
    writer.writerow([pad + name + pad for name in rows[0]])
    for row in rows:
        decimals = {name: row[name].replace(".", ",") for name in ("start", "end") if comma}
        writer.writerow([pad + {**row, **decimals}[name] + pad for name in rows[0]])
    path.write_bytes(bom + (first + text.getvalue()).encode(encoding))


cells = st.text("aÄ中0'\",;\t. ", min_size=1, max_size=8).map(str.strip).filter(bool)
table = st.lists(
    st.fixed_dictionaries({
        "path": st.sampled_from(["b.wav", "deep/er/c.flac"]),
        "start": st.integers(0, 10_000).map(lambda n: f"{n / 100:.2f}"),
        "end": st.integers(10_001, 20_000).map(lambda n: f"{n / 100:.2f}"),
        "text": cells, "speaker": cells, "language": st.sampled_from(["de", "en"]),
    }), min_size=1, max_size=6)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(rows=table)
def test_a_table_in_any_dialect_reads_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    expected: dict[str, list[Segment]] = {}
    for row in rows:
        expected.setdefault(row["path"], []).append(
            Segment(float(row["start"]), float(row["end"]), row["text"], row["speaker"], row["language"]))
    manifests = [folder / f"{name}.csv" for name in DIALECTS]
    for path, dialect in zip(manifests, DIALECTS.values(), strict=True):
        write_dialect(path, rows, **dialect)  # type: ignore[arg-type]
    lines = "".join(json.dumps({**row, "start": float(row["start"])}) + "\n" for row in rows)
    for name in ("m.jsonl", "nemo.json"):
        (folder / name).write_text(lines)
    nested = [{**row, "path": {"path": row["path"], "bytes": None}} for row in rows]
    (folder / "nested.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested))
    (folder / "list.json").write_text(json.dumps(rows, indent=2))
    (folder / "m.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    seconds = {name: pa.array([round(float(row[name]) * 1e9) for row in rows], pa.duration("ns")) for name in ("start", "end")}
    pq.write_table(pa.table({**{name: [row[name] for row in rows] for name in rows[0]}, **seconds}), folder / "m.parquet")
    manifests += [folder / name for name in ("m.jsonl", "nemo.json", "nested.jsonl", "list.json", "m.jsonl.gz", "m.parquet")]
    for manifest in manifests:
        found = {recording.recording_id: list(recording.segments) for recording in find([str(manifest)]).recordings}
        assert found == expected, manifest.name


@pytest.mark.parametrize(("text", "encoding"), [("path\nM\xfcller.wav\n", "latin-1"), ("path\nM\xfcller.wav\n", "cp850")])
def test_another_encoding_is_refused_with_what_to_do(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    with pytest.raises(TableError, match="is not UTF-8 text; save it as UTF-8"):
        find([str(tmp_path / "m.csv")])


def test_columns_that_are_not_used_are_named(corpus: Path) -> None:
    (corpus / "m.csv").write_text("audio_filepath,offset,duration,speaker_id,title,channel\nb.wav,0.5,1,7,Show,0\n")
    found = find([str(corpus / "m.csv")])
    assert [note.partition(": ")[2] for note in found.notes] == [
        "the path is 'audio_filepath', the speaker is 'speaker_id', the start is 'offset', the end is 'offset' + 'duration'",
        "columns not used: 'title', 'channel'",
    ]
    (corpus / "m.csv").write_text("path,duration,published_time\nb.wav,3600,2024-05-01 07:30\n")
    found = find([str(corpus / "m.csv")])
    assert found.recordings[0].segments == ()
    assert [note.partition(": ")[2] for note in found.notes] == [
        "'duration' is not used because no column holds a start; whole recordings are read",
        "columns not used: 'published_time'",
    ]
    (corpus / "m.csv").write_text("path,start,end,text,speaker,language,\nb.wav,0,1,Hm,A,en,\n")  # Excel's empty column
    assert find([str(corpus / "m.csv")]).notes == ()


@pytest.mark.parametrize(("rows", "says"), [
    (["b.wav,0,1,A", "b.wav,1,2,A", "b.wav,0,1,A"], "rows that repeat another: 1 (line 2 and line 4)"),
    (["b.wav,0,9,A", "b.wav,1,2,A"], "rows that lie within another: 1 (line 2 and line 3)"),
    (["b.wav,1,2,", "b.wav,0,9,"], "rows that lie within another: 1 (line 3 and line 2)"),
    (["b.wav,,,", "b.wav,0,1,A", "b.wav,1,2,B"], "rows that lie within another: 2 (line 2 and line 3, line 2 and line 4)"),
    (["b.wav,0,2,A", "b.wav,1,3,A"], None), (["b.wav,0,9,A", "b.wav,1,2,B"], None),
    (["b.wav,0,1,A", "a.MP3,0,1,A"], None),
])
def test_rows_that_repeat_or_hold_each_other_are_noted(corpus: Path, rows: list[str], says: str | None) -> None:
    (corpus / "m.csv").write_text("\n".join(["path,start,end,speaker", *rows]))
    found = find([str(corpus / "m.csv")])
    assert sum(len(r.segments) for r in found.recordings) == len(rows)
    assert [says in note for note in found.notes] == [True] * bool(says)


@pytest.mark.parametrize(("written", "code"), [
    ("en-US", "en"), ("EN", "en"), ("English", "en"), ("eng", "en"), ("iw", "he"), ("zh-CN", "zh"), ("pt_BR", "pt"),
    ("Deutsch", "de"), ("german", "de"), ("ger", "de"), ("fr-CA", "fr"), ("cmn-Hans-CN", "zh"), ("nb-NO", "no"),
    ("jv", "jw"),
    ("fil", "tl"), ("en_US.UTF-8", "en"), ("English (US)", "en"), ("fran\u00e7ais", "fr"), ("francais", "fr"), ("yue", "yue"),
    ("haw", "haw"), (" de ", "de"), ("", None), ("nan", None), ("unknown", None), ("und", None),
])
def test_a_language_is_understood_as_people_write_it(corpus: Path, written: str, code: str | None) -> None:
    (corpus / "m.csv").write_text(f"path,start,lang\nb.wav,0,{written}\n")
    assert segments(corpus / "m.csv")[0].language == code


@pytest.mark.parametrize(("on_disk", "listed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_is_found_in_another_unicode_form(tmp_path: Path, on_disk: str, listed: str) -> None:
    names = ["M\u00fcller_01.wav", "\u00c5ngstr\u00f6m/\u304c.wav", "plain.wav"]
    for name in names:
        path = tmp_path / unicodedata.normalize(on_disk, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "m.csv").write_text("\n".join(["path", *(unicodedata.normalize(listed, name) for name in names)]))
    found = find([str(tmp_path / "m.csv")])
    assert sorted(ids(found)) == sorted(unicodedata.normalize(on_disk, name) for name in names)
    assert all(recording.path.exists() for recording in found.recordings)


def test_a_name_on_the_command_line_or_on_stdin_is_found_in_another_unicode_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "M\u00fcller.wav") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).write_bytes(b"x")
    assert ids(find([str(tmp_path / composed)])) == [decomposed]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{tmp_path}/{composed}\n".encode()), encoding="utf-8"))
    assert ids(find(["-"])) == [decomposed]


def test_of_two_unicode_forms_the_listed_one_is_taken(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "M\u00fcller.wav") for form in ("NFC", "NFD")]
    for name in forms:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "m.csv").write_text("\n".join(["path", *forms]))
    found = find([str(tmp_path / "m.csv")])
    assert sorted(ids(found)) == sorted(forms)
    assert all(recording.path.read_bytes() == recording.recording_id.encode() for recording in found.recordings)


@pytest.mark.parametrize("written", [
    ".\\deep\\er\\c.flac", "deep\\er\\c.flac", "D:\\data\\corpus\\deep\\er\\c.flac", "d:/deep/er/c.flac",
    "\\\\server\\share\\deep\\er\\c.flac", "./deep/er/c.flac", " deep/er/c.flac ", "deep/../deep//er/c.flac",
    "file:deep/er/c.flac", "{corpus}/deep/er/c.flac", "file://{corpus}/deep/er/c.flac", "file://localhost{corpus}/deep/er/c.flac",
    "file:///D:/deep/er/c.flac",
])
def test_a_path_of_another_system_is_found(corpus: Path, written: str) -> None:
    (corpus / "m.csv").write_text(f"path\n{written.format(corpus=corpus)}\n")
    assert ids(find([str(corpus / "m.csv")])) == ["deep/er/c.flac"]


def test_a_percent_sign_is_taken_as_it_stands_in_a_path_and_read_in_an_address(tmp_path: Path) -> None:
    for name in ("a b.wav", "a%20b.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "m.csv").write_text(f"path\na%20b.wav\nfile://{tmp_path}/a%20b.wav\n")
    assert ids(find([str(tmp_path / "m.csv")])) == ["a b.wav", "a%20b.wav"]


def test_a_drive_s_path_that_is_nowhere_stays_as_it_is(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path\nD:\\data\\gone.wav\nb:x.wav\n")
    assert ids(find([str(corpus / "m.csv")])) == ["D:\\data\\gone.wav", "b:x.wav"]


# lhotse

def test_lhotse_supervisions_name_recordings_without_their_extension(corpus: Path) -> None:
    lines = [{"id": "u1", "recording_id": "b", "start": 0.5, "duration": 1.75, "channel": 0, "text": "Hi", "speaker": "7",
              "language": "English", "custom": {"snr": 3}, "alignment": {}}]  # fmt: skip
    (corpus / "supervisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (recording,) = find([str(corpus / "supervisions.jsonl")]).recordings
    assert (recording.recording_id, recording.segments) == ("b.wav", (Segment(0.5, 2.25, "Hi", "7", "en"),))
    (corpus / "b.mp3").write_bytes(b"x")  # now two recordings fit
    assert ids(find([str(corpus / "supervisions.jsonl")])) == ["b"]


def lhotse_cut(**more: object) -> dict[str, object]:
    source = {"type": "file", "channels": [0], "source": "b.wav"}
    recording = {"id": "b", "sources": [source], "sampling_rate": 16000, "num_samples": 384000, "duration": 24.0}
    return {"id": "c1", "start": 10.0, "duration": 5.0, "channel": 0, "recording": recording, "type": "MonoCut", **more}


def test_lhotse_cuts_are_read_supervision_by_supervision(corpus: Path) -> None:
    supervisions = [{"id": "s", "recording_id": "b", "start": 1.0, "duration": 2.0, "text": "One", "speaker": "A"},
                    {"id": "t", "recording_id": "b", "start": 3.5, "duration": 1.0, "text": "Two", "speaker": "B"}]  # fmt: skip
    (corpus / "cuts.jsonl").write_text(json.dumps(lhotse_cut(supervisions=supervisions)) + "\n" + json.dumps(lhotse_cut()) + "\n")
    assert segments(corpus / "cuts.jsonl") == (
        Segment(11.0, 13.0, "One", "A"), Segment(13.5, 14.5, "Two", "B"), Segment(10.0, 15.0))
    (corpus / "recordings.jsonl").write_text(json.dumps(lhotse_cut()["recording"]) + "\n")
    assert segments(corpus / "recordings.jsonl") == ()
    for entry in (lhotse_cut(type="MixedCut"), lhotse_cut(recording={"id": "b", "sources": []})):
        (corpus / "cuts.jsonl").write_text(json.dumps(entry) + "\n")
        with pytest.raises(TableError, match=r"line 1 (is a lhotse MixedCut|names the recording 'b', which is not a single)"):
            find([str(corpus / "cuts.jsonl")])


# Times

@given(st.integers(0, 10**9))
def test_a_time_reads_the_same_however_it_is_written(milliseconds: int) -> None:
    whole, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    written = [
        f"{whole}.{rest:03d}", f" {whole}.{rest:03d} s ", f"{milliseconds} ms", f"{hours}:{minute:02d}:{second:02d}.{rest:03d}",
        f"{hours:02d}:{minute:02d}:{second:02d},{rest:03d}", f"{minutes}:{second:02d}.{rest:03d}",
        f"{days} days {hour:02d}:{minute:02d}:{second:02d}.{rest:03d}000000", f"P{days}DT{hour}H{minute}M{second}.{rest:03d}S",
        f"{days} days, {hour}:{minute:02d}:{second:02d}.{rest:03d}",
    ]  # fmt: skip
    assert {seconds(text) for text in written} | {seconds(str(milliseconds), 1e-3)} == {milliseconds / 1000}


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "0:75", "1:75:00", "1.2.3", "12h", "P", "PT", "days", "1,234.5",
                                  "1970-01-01", "1970-01-01T00:00:01", "0x10", "1_000", "--1", "5 m"])  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|seconds"):
        seconds(text)

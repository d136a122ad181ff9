"""The names in a label file find their recordings, or are refused; utterances find the labels that they belong to."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.joining import join, match_names
from msfser_cli.evaluation.labels import Labels, read_labels

HERE = Path("labels.csv")


def utterances(*rows: tuple[str, float, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(recording, f"{recording}#{i:04d}", start, end) for i, (recording, start, end) in enumerate(rows)], orient="row",
        schema={"recording_id": pl.String, "utterance_id": pl.String, "start": pl.Float64, "end": pl.Float64})


def labels_of(folder: Path, text: str) -> Labels:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return read_labels(folder / "labels.csv")


def test_rows_follow_the_labels_and_then_the_recording(tmp_path: Path) -> None:
    table = utterances(("b.wav", 3, 5), ("b.wav", 0, 2.5), ("a.wav", 1, 2))
    joined = join(table, labels_of(tmp_path, "file,V\na.wav,0.1\nx.wav,0.1\nb.wav,0.9\n"))
    assert joined.unit == "recording"
    assert joined.frame.rows() == [
        (2, "a.wav", "a.wav#0002", 1.0), (4, "b.wav", "b.wav#0001", 2.5), (4, "b.wav", "b.wav#0000", 2.0)]
    assert (joined.labels.examples, joined.recordings.count, joined.utterances.count) == (("x.wav",), 0, 0)


def test_an_utterance_may_belong_to_two_segments_for_the_time_it_shares_with_each(tmp_path: Path) -> None:
    joined = join(utterances(("a.wav", 1, 3)), labels_of(tmp_path, "file,start,end,V\na.wav,0,2,0.1\na.wav,2,4,0.9\n"))
    assert joined.unit == "segment"
    assert joined.frame.select("row", "overlap").rows() == [(2, 1.0), (3, 1.0)]


def test_an_utterance_label_has_the_utterances_duration(tmp_path: Path) -> None:
    joined = join(utterances(("a.wav", 1, 3), ("a.wav", 4, 7)), labels_of(tmp_path, "utterance_id,V\na.wav#0001,0.1\n"))
    assert joined.unit == "utterance"
    assert joined.frame.rows() == [(2, "a.wav", "a.wav#0001", 3.0)]
    assert joined.matched_by == {"utterance_id": 1}


@pytest.mark.parametrize(("name", "recordings", "expected"), [
    ("a.wav", ["a.wav", "b/a.wav"], ("a.wav", "recording_id")),
    ("audio/a.flac", ["a.flac", "b.flac"], ("a.flac", "end of the path")),
    ("a.flac", ["audio/a.flac", "audio/aa.flac"], ("audio/a.flac", "end of the path")),
    ("/corpora/x/s1/a.wav", ["s1/a.wav", "s2/a.wav", "a.wav"], ("s1/a.wav", "end of the path")),
    ("C:\\corpora\\s1\\a.wav", ["s1/a.wav", "s2/a.wav"], ("s1/a.wav", "end of the path")),
    ("./s1/a.wav", ["s1/a.wav", "s2/a.wav"], ("s1/a.wav", "end of the path")),
    ("a", ["s1/a.wav", "s1/b.wav"], ("s1/a.wav", "end of the path, without extension")),
    ("s1/a.wav", ["s1/a.flac", "s2/a.flac"], ("s1/a.flac", "end of the path, without extension")),
    ("take1.5", ["take1.5.wav", "take1.wav"], ("take1.5.wav", "end of the path, without extension")),
    ("Mu\u0308ller.wav", ["M\u00fcller.wav"], ("M\u00fcller.wav", "end of the path")),
    ("a.wav", ["ba.wav", "a.wav.d/x.wav", "A.wav"], None),
    ("s2/a.wav", ["s1/a.wav"], None),
    ("take1.5", ["take1.wav"], None),
])
def test_a_file_name_finds_its_recording(name: str, recordings: list[str], expected: tuple[str, str] | None) -> None:
    assert match_names(HERE, [name], recordings) == ({} if expected is None else {name: expected})


@pytest.mark.parametrize(("names", "recordings", "says"), [
    (["a.wav"], ["s1/a.wav", "s2/a.wav"], "'a.wav' may be 's1/a.wav', 's2/a.wav'"),
    (["a"], ["a.wav", "a.flac"], "'a' may be 'a.flac', 'a.wav'"),
    (["s1/a.wav", "s2/a.wav"], ["a.wav"], "'s1/a.wav', 's2/a.wav' all fit the recording 'a.wav'"),
])
def test_an_ambiguous_name_is_refused(names: list[str], recordings: list[str], says: str) -> None:
    with pytest.raises(LabelError) as refused:
        match_names(HERE, names, recordings)
    assert says in str(refused.value)


def test_a_recording_that_is_named_exactly_is_not_open_to_a_weaker_rule() -> None:
    found = match_names(HERE, ["old/a.wav", "a.wav", "a"], ["a.wav", "b.wav"])
    assert found == {"a.wav": ("a.wav", "recording_id")}


paths = st.lists(st.lists(st.sampled_from(["a", "b", "ä", "a.b"]), min_size=1, max_size=3), min_size=1, max_size=6).map(
    lambda many: sorted({"/".join(parts) + ".wav" for parts in many}))


@given(recordings=paths, prefix=st.sampled_from(["", "root/", "/data/root/", "./"]),
       extension=st.sampled_from([".wav", ".mp3", ""]))
def test_names_below_another_root_find_their_recording_or_are_refused(recordings: list[str], prefix: str, extension: str) -> None:
    truth = {prefix + str(PurePosixPath(r).with_suffix("")) + extension: r for r in recordings}
    if len(truth) < len(recordings):
        return
    try:
        found = match_names(HERE, truth, recordings)
    except LabelError:
        assert extension != ".wav"  # without its extension, 'a.b' is 'a'; with it, a whole path is never ambiguous
        return
    assert {name: recording for name, (recording, _) in found.items()} == truth

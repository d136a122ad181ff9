"""Each format is read back by a program of somebody else, from real tables with words that break careless writers."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pysubs2
import pytest
import webvtt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import SupervisionSegment, SupervisionSet
from praatio import textgrid
from pyannote.core import Segment
from pyannote.database.util import load_rttm
from pympi import Eaf

from kit.scored import COLUMNS, FORMATS, scored_row, write_scores
from msfser_cli.exports.export import export
from msfser_cli.exports.format import formats
from msfser_cli.exports.text import on_one_line
from msfser_cli.schemas import LedgerLine, columns_through

HOSTILE = [
    ("-->", 0.0, 0.4), ("<b>", 0.4, 0.6), ("&amp;", 0.6, 0.9), ('"quoted"', 0.9, 1.2), ("{\\an8}", 1.2, 1.5),
    ("C:\\new", 1.5, 1.8),
    ("</v>", 1.8, 2.0), ("שלום", 2.0, 2.4), ("مرحبا", 2.4, 2.8), ("3,5 %", 2.8, 3.2), ("日本語", 3.2, 3.6), ("<!--", 3.6, 4.0),
]  # fmt: skip


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a table of rows, exports it, and returns the output folder."""
    def make(rows: list[dict[str, Any]], to: str, lines: list[LedgerLine] | None = None, columns: Any = COLUMNS) -> Path:
        table = write_scores(tmp_path / "scores.parquet", rows, lines or [], columns)
        export(table, formats(to), tmp_path / "out")
        return tmp_path / "out"

    return make


def read_vtt(path: Path) -> list[str]:
    return [caption.text for caption in webvtt.read(str(path))]


def test_the_subtitles_are_those_of_other_programs(exported: Callable[..., Path]) -> None:
    words = [("We", 0.5, 0.7), ("won", 0.7, 1.1), ("the", 1.1, 1.2), ("first", 1.2, 1.6), ("prize.", 1.6, 2.0)]
    out = exported([scored_row("a.mp3", 0, words, emphasised=[1])], "srt,vtt,srt-words,vtt-words")
    [event] = pysubs2.load(str(out / "a.srt"), keep_html_tags=True)
    assert (event.start, event.end, event.text) == (500, 2000, "We <b>won</b> the first prize.")
    [caption] = webvtt.read(str(out / "a.vtt"))
    assert (caption.start, caption.end, caption.raw_text) == ("00:00:00.500", "00:00:02.000", "We <b>won</b> the first prize.")
    assert [e.plaintext for e in pysubs2.load(str(out / "a.words.srt"))] == [text for text, _, _ in words]
    assert [(c.start_in_seconds, c.text) for c in webvtt.read(str(out / "a.words.vtt"))][1] == (0, "won")


def test_text_that_looks_like_markup_stays_text_in_subtitles(exported: Callable[..., Path]) -> None:
    out = exported([scored_row("a.mp3", 0, HOSTILE, speaker="A & <B>")], "srt,vtt")
    spoken = "".join(text.replace(" ", "") for text, _, _ in HOSTILE)
    shown = "".join(read_vtt(out / "a.vtt"))
    assert "".join(html.unescape(shown).split()) == spoken
    assert {c.voice for c in webvtt.read(str(out / "a.vtt"))} == {"A &amp; &lt;B&gt;"}
    events = pysubs2.load(str(out / "a.srt"), keep_html_tags=True, keep_unknown_html_tags=True)
    assert "".join("".join(e.text.replace("\\N", " ").split()) for e in events).replace("\u2060", "") == spoken


def test_lines_are_short_and_cues_do_not_flash(exported: Callable[..., Path]) -> None:
    text = "I climbed the stairs in complete darkness, counting every step and my hands were shaking. Yes!"
    words = [(word, 0.4 * i, 0.4 * i + 0.3) for i, word in enumerate(text.split())]
    out = exported([scored_row("a.mp3", 0, words), scored_row("a.mp3", 1, [("No.", 20.0, 20.1)])], "vtt")
    captions = list(webvtt.read(str(out / "a.vtt")))
    assert [c.lines for c in captions][:2] == [
        ["I climbed the stairs in complete darkness,"], ["counting every step and my", "hands were shaking. Yes!"]]  # fmt: skip
    assert max(len(line) for caption in captions for line in caption.lines) <= 42
    assert (captions[-1].start, captions[-1].end) == ("00:00:20.000", "00:00:21.000")


def test_chinese_has_no_blanks_and_narrow_lines(exported: Callable[..., Path]) -> None:
    words = [("今天", 0.2 * i, 0.2 * i + 0.2) for i in range(30)]
    out = exported([scored_row("a.mp3", 0, words, between="", language="zh")], "vtt")
    lines = [line for caption in webvtt.read(str(out / "a.vtt")) for line in caption.lines]
    assert "".join(lines) == "今天" * 30
    assert max(map(len, lines)) <= 21


def test_a_speaker_is_named_where_there_are_several(exported: Callable[..., Path]) -> None:
    rows = [
        scored_row("a.mp3", 0, [("Hello", 0.0, 1.5)], speaker="Ann"),
        scored_row("a.mp3", 1, [("there", 2.0, 3.5)], speaker="Ann"),
        scored_row("a.mp3", 2, [("Hi", 4.0, 5.5)], speaker="Bo"),
        scored_row("b.mp3", 0, [("Alone", 0.0, 1.5)], speaker="Ann"),
    ]
    out = exported(rows, "srt,vtt")
    assert [e.text for e in pysubs2.load(str(out / "a.srt"))] == ["Ann: Hello", "there", "Bo: Hi"]
    assert [e.text for e in pysubs2.load(str(out / "b.srt"))] == ["Alone"]
    assert [c.voice for c in webvtt.read(str(out / "a.vtt"))] == ["Ann", "Ann", "Bo"]


def test_speakers_who_talk_at_once_are_in_order_of_time(exported: Callable[..., Path]) -> None:
    long = [(f"a{i}", float(i), i + 0.9) for i in range(20)]
    rows = [scored_row("a.mp3", 0, long, speaker="Ann"), scored_row("a.mp3", 1, [("yes", 3.2, 3.5)], speaker="Bo")]
    out = exported(rows, "srt,vtt,ctm,vtt-words")
    events = list(pysubs2.load(str(out / "a.srt")))
    assert [event.start for event in events] == sorted(event.start for event in events)
    at = [event.text for event in events].index("Bo: yes")
    assert [event.text[:6] for event in events[at - 1 : at + 2]] == ["Ann: a", "Bo: ye", "Ann: a"]
    for name in ("a.vtt", "a.words.vtt"):
        captions = list(webvtt.read(str(out / name)))
        assert [c.start for c in captions] == sorted(c.start for c in captions)
    times = [float(line.split()[2]) for line in (out / "a.ctm").read_text().splitlines()]
    assert times == sorted(times)


def test_a_speaker_may_be_called_like_a_tier(exported: Callable[..., Path]) -> None:
    rows = [scored_row("a.mp3", i, [(name, 2.0 * i, 2.0 * i + 1)], speaker=name) for i, name in enumerate(("A", "A - words"))]
    eaf = Eaf(exported(rows, "eaf") / "a.eaf")
    values = [value for name in eaf.get_tier_names() for _, _, value, *_ in eaf.get_annotation_data_for_tier(name)]
    assert values.count("A") == values.count("A - words") == 2  # the utterance and its word


def test_praat_and_elan_have_all_tiers(exported: Callable[..., Path]) -> None:
    rows = [
        scored_row("a.mp3", 0, [('"Hello"', 0.0, 0.5), ("you", 0.5, 0.5), ("two", 0.5, 1.0)], emphasised=[0, 2], speaker="Ann"),
        scored_row("a.mp3", 1, [("Now", 0.8, 1.2)], speaker="Ann", description=None),
        scored_row("a.mp3", 2, [("Yes", 0.9, 1.4)], speaker="Bo"),
    ]
    out = exported(rows, "textgrid,eaf", [LedgerLine("a.mp3", duration=10.0, utterances=3)])
    grid = textgrid.openTextgrid(str(out / "a.TextGrid"), includeEmptyIntervals=False)
    assert grid.maxTimestamp == 10.0
    layers = ["utterances", "words", "emphasis", "prominence", "description", "valence", "arousal", "dominance"]
    assert grid.tierNames == (
        *(f"Ann - {layer}" for layer in layers),
        *(f"Ann (2) - {layer}" for layer in layers if layer not in ("emphasis", "description")),
        *(f"Bo - {layer}" for layer in layers if layer != "emphasis"),
    )  # fmt: skip
    assert [tuple(entry) for entry in grid.getTier("Ann - words").entries] == [
        (0.0, 0.5, '"Hello"'), (0.5, 0.501, "you"), (0.501, 1.0, "two")]  # fmt: skip
    assert [entry.label for entry in grid.getTier("Ann - emphasis").entries] == ['"Hello"', "two"]
    assert [tuple(entry) for entry in grid.getTier("Bo - arousal").entries] == [(0.9, 1.4, "0.500")]

    eaf = Eaf(out / "a.eaf")
    assert eaf.get_annotation_data_for_tier("Ann - words") == [(0, 500, '"Hello"'), (500, 501, "you"), (501, 1000, "two")]
    assert eaf.get_ref_annotation_data_for_tier("Bo - arousal") == [(900, 1400, "0.500", "Yes")]
    assert eaf.get_parameters_for_tier("Ann - words")["PARENT_REF"] == "Ann"
    assert eaf.get_linked_files()[0]["MEDIA_URL"] == "file:///corpus/a.mp3"


def test_rttm_and_ctm(exported: Callable[..., Path]) -> None:
    rows = [scored_row("ep 1.mp3", 0, [("3,5 %", 0.25, 0.5), ("more", 0.5, 1.0)], speaker="Ann Lee"),
            scored_row("ep 1.mp3", 1, [("Yes", 0.75, 1.5)], channel=1)]  # fmt: skip
    out = exported(rows, "rttm,ctm")
    annotation = load_rttm(out / "ep 1.rttm")["ep_1"]
    assert [(segment, label) for segment, _, label in annotation.itertracks(yield_label=True)] == [
        (Segment(0.25, 1.0), "Ann_Lee"), (Segment(0.75, 1.5), "unknown")]  # fmt: skip
    whole = SupervisionSegment("u", "ep_1", 0.25, 1.25, channel=1)
    aligned = SupervisionSet.from_segments([whole]).with_alignment_from_ctm(out / "ep 1.ctm", match_channel=True)
    words = [(item.symbol, item.start, item.duration) for item in aligned["u"].alignment["word"]]
    assert words == [("3,5_%", 0.25, 0.25), ("more", 0.5, 0.5)]


def test_audacity_json_and_csv(exported: Callable[..., Path]) -> None:
    words = [("Tab\there", 0.5, 1.0), ("yes", 1.0, 100_000.25)]
    out = exported([scored_row("a.mp3", 0, words, emphasised=[1], speaker="Ann", valence=None)], "audacity,json,csv")
    assert (out / "a.utterances.txt").read_text() == "0.500000\t100000.250000\tAnn: Tab here yes\n"
    assert (out / "a.words.txt").read_text().splitlines()[0] == "0.500000\t1.000000\tTab here"
    assert (out / "a.scores.txt").read_text() == "0.500000\t100000.250000\tarousal 0.500, dominance 0.750\n"
    [segment] = json.loads((out / "a.json").read_text())["segments"]
    assert segment["words"][1] == {
        "word": "yes", "start": 1.0, "end": 100_000.25, "score": 0.5, "speaker": "Ann", "prominence": 1.5, "emphasised": True,
    }  # fmt: skip
    assert (segment["speaker"], segment["arousal"], "valence" in segment) == ("Ann", 0.5, False)
    frame = pd.read_csv(out / "utterances.csv")
    assert pd.to_timedelta(frame["start"])[0] == pd.Timedelta(seconds=0.5)
    assert pd.to_timedelta(frame["end"])[0] == pd.Timedelta(days=1, hours=3, minutes=46, seconds=40, milliseconds=250)
    assert frame.loc[0, "text"] == "Tab\there yes"
    assert pd.isna(frame.loc[0, "valence"])


def test_label_studio_gets_regions_that_its_configuration_names(exported: Callable[..., Path]) -> None:
    rows = [scored_row("a b.mp3", i, [("Hello", i, i + 0.5)], speaker="Ann", channel=i) for i in (0, 1)]
    out = exported(rows, "labelstudio")
    [task] = json.loads((out / "labelstudio.json").read_text())
    assert task["data"]["audio"] == "/data/local-files/?d=a%20b.mp3"
    results = task["predictions"][0]["result"]
    places = {(r["id"], r["value"]["start"], r["value"]["channel"]) for r in results}
    assert places == {("a b.mp3#0000", 0, 0), ("a b.mp3#0001", 1, 1)}
    tags = {tag.get("name"): tag for tag in ElementTree.parse(out / "labelstudio.xml").getroot()}
    assert {r["from_name"] for r in results} == set(tags) - {"audio"}
    for r in results:
        assert tags[r["from_name"]].tag.lower() == r["type"]
        assert tags[r["from_name"]].get("toName") == r["to_name"] == "audio"
    assert tags["audio"].get("value") == "$audio"
    assert [r["value"]["number"] for r in results if r["type"] == "number"][:3] == [0.25, 0.5, 0.75]


def test_a_table_of_transcribe_is_enough(exported: Callable[..., Path]) -> None:
    rows = [scored_row("a.mp3", 0, [("Hello", 0.0, 0.5)])]
    out = exported(rows, ",".join(name for name in FORMATS if name != "submission"), columns=columns_through("transcribe"))
    assert textgrid.openTextgrid(str(out / "a.TextGrid"), False).tierNames == ("speech - utterances", "speech - words")
    assert not (out / "a.scores.txt").exists()
    assert (out / "utterances.csv").read_text().splitlines()[0] == "file,start,end,speaker,language,text"


def test_an_hour_of_ten_thousand_words(exported: Callable[..., Path]) -> None:
    """By two speakers, who overlap; each tenth word has no length."""
    words = [[(f"w{i}.{k}", 7 * i + k / 3, 7 * i + k / 3 + (0.25 if k % 10 else 0)) for k in range(20)] for i in range(500)]
    rows = [scored_row("a.mp3", i, spoken, emphasised=[0, 7], speaker=f"S{i % 2}") for i, spoken in enumerate(words)]
    out = exported(rows, "srt-words,vtt-words,textgrid,eaf,ctm,json,audacity,csv", [LedgerLine("a.mp3", duration=3600.0)])
    said = sorted(text for spoken in words for text, _, _ in spoken)
    cues = [event.plaintext for event in pysubs2.load(str(out / "a.words.srt"))]
    assert sorted(cue.removeprefix("S0: ").removeprefix("S1: ") for cue in cues) == said
    assert sorted(read_vtt(out / "a.words.vtt")) == said
    grid, eaf = textgrid.openTextgrid(str(out / "a.TextGrid"), includeEmptyIntervals=False), Eaf(out / "a.eaf")
    assert sorted(e.label for name in ("S0 - words", "S1 - words") for e in grid.getTier(name).entries) == said
    assert sorted(v for name in ("S0 - words", "S1 - words") for *_, v in eaf.get_annotation_data_for_tier(name)) == said
    assert sorted(line.split()[4] for line in (out / "a.ctm").read_text().splitlines()) == said
    segments = json.loads((out / "a.json").read_text())["segments"]
    assert sorted(word["word"] for segment in segments for word in segment["words"]) == said
    assert len((out / "a.words.txt").read_text().splitlines()) == 10_000
    assert len(pd.read_csv(out / "utterances.csv")) == 500


TEXT = st.text(min_size=1, max_size=12)
WORDS = st.lists(st.tuples(TEXT, st.floats(0, 30), st.floats(0, 3)), max_size=8)


@given(st.lists(st.tuples(WORDS, st.none() | TEXT), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_words_and_times_every_reader_gets_them_all(
    new_folder: Callable[[], Path], utterances: list[tuple[list[tuple[str, float, float]], str | None]]
) -> None:
    folder = new_folder()
    rows = []
    for i, (words, speaker) in enumerate(utterances):
        timed = sorted((start, start + length, text) for text, start, length in words)
        spoken = [(text, start, end) for start, end, text in timed]
        times = (timed[0][0], max(end for _, end, _ in timed) + 0.001) if timed else (1.0, 2.0)
        rows.append(scored_row("a.mp3", i, spoken, times=times, speaker=speaker))
    every = formats(",".join(name for name in FORMATS if not name.startswith("hf")))  # datasets would read each copy of a table
    export(write_scores(folder / "x.parquet", rows), every, folder / "out")
    said = sorted(line for row in rows for word in row["words"] if (line := on_one_line(word["word"])))

    grid = textgrid.openTextgrid(str(folder / "out" / "a.TextGrid"), includeEmptyIntervals=False)
    in_praat = [e.label for name in grid.tierNames if name.endswith(" - words") for e in grid.getTier(name).entries]
    assert sorted(in_praat) == said
    eaf = Eaf(folder / "out" / "a.eaf")
    in_elan = [value for name in eaf.get_tier_names() if name.endswith(" - words")
               for _, _, value in eaf.get_annotation_data_for_tier(name)]  # fmt: skip
    assert sorted(value for value in in_elan if value) == said
    load_rttm(folder / "out" / "a.rttm")
    with (folder / "out" / "utterances.csv").open(newline="") as lines:
        assert [line["text"] for line in csv.DictReader(lines)] == [row["text"] for row in rows]
    assert len((folder / "out" / "a.ctm").read_text().splitlines()) == sum(len(row["words"]) for row in rows)
    webvtt.read(str(folder / "out" / "a.vtt"))
    assert len(pysubs2.load(str(folder / "out" / "a.words.srt"), format_="srt")) == len(said)

"""Label files are read by name, and refused by name where reading them would be guessing."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msfser_cli.errors import LabelError, TableError, UsageError
from msfser_cli.evaluation.labels import KNOWN_SCALES, REACH, Labels, Scale, read_labels, resolve_scale

DATA = Path(__file__).parents[3] / "shared" / "data"
MSP = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1
MSP-PODCAST_0001_0139.wav,A,6.4,1.8,5.5,Unknown,Female,Train
"""


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_msp_podcast_is_read_as_it_ships(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, MSP))
    assert labels.format == "MSP-Podcast"
    assert labels.frame.to_dicts()[0] == {
        "row": 2, "recording": "MSP-PODCAST_0001_0008.wav", "utterance_id": None, "speaker": "30", "split": "Test1",
        "gender": "male", "language": None, "cluster": "30",
        "start": None, "end": None, "valence": 4.0, "arousal": 2.2, "dominance": 2.6,
    }
    assert labels.frame["speaker"].to_list() == ["30", None]
    assert labels.frame["cluster"].to_list() == ["30", "podcast 0001"]
    assert resolve_scale(labels).scale == Scale(1, 7)
    assert resolve_scale(labels).source == "declared by MSP-Podcast"


@pytest.mark.parametrize("names", [
    ("file", "valence", "arousal", "dominance"), ("Path", "V", "A", "D"), ("File Name", "val", "activation", "dom"),
    ("recording_id", "EmoVal", "EmoAct", "EmoDom"), ("ID", "VALENCE", "act", "Dominance"), ("name", "v", "aro", "d"),
])
def test_columns_are_found_by_name_in_any_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    cells = dict(zip(names, ("a.wav", "0.1", "0.5", "0.9"), strict=True))
    for order in permutations(names):
        for separator in ",\t;":
            text = separator.join(order) + "\n" + separator.join(cells[n] for n in order) + "\n"
            [row] = read_labels(write(tmp_path, text)).frame.to_dicts()
            assert (row["recording"], row["valence"], row["arousal"], row["dominance"]) == ("a.wav", 0.1, 0.5, 0.9)


def test_csv_tsv_and_parquet_give_the_same_labels(tmp_path: Path) -> None:
    table = pl.DataFrame({"path": ["ä/1.wav", "b, c.wav"], "start": [0.5, 2.0], "end": [1.5, 3.25], "valence": [1, 5],
                          "arousal": [2.5, None], "speaker": [7, 8]})
    table.write_csv(tmp_path / "l.csv")
    table.write_csv(tmp_path / "l.tsv", separator="\t")
    table.write_parquet(tmp_path / "l.parquet")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "l.csv").read_bytes().replace(b"\n", b"\r\n"))
    frames = [read_labels(tmp_path / name).frame.drop("row") for name in ("l.csv", "l.tsv", "l.parquet", "bom.csv")]
    assert frames[0].to_dicts() == [
        {"recording": "ä/1.wav", "utterance_id": None, "speaker": "7", "gender": None, "language": None,
         "cluster": "7", "split": None, "start": 0.5, "end": 1.5,
         "valence": 1.0, "arousal": 2.5, "dominance": None},
        {"recording": "b, c.wav", "utterance_id": None, "speaker": "8", "gender": None, "language": None,
         "cluster": "8", "split": None, "start": 2.0, "end": 3.25,
         "valence": 5.0, "arousal": None, "dominance": None},
    ]
    for frame in frames[1:]:
        assert frame.equals(frames[0])


def test_a_file_column_wins_over_a_running_number(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, "id,file,valence\n1,a.wav,0.1\n"))
    assert labels.columns == {"recording": "file", "valence": "valence"}


@pytest.mark.parametrize(("row", "cluster"), [
    ("a.wav,0.5,", None), ("a.wav,0.5,Anna", "Anna"), ("a.wav,0.5,unknown", None),
    ("MSP-PODCAST_0153_0008.wav,0.5,Unknown", "podcast 0153"), ("x/MSP-PODCAST_0153_0008_0002.wav,0.5,", "podcast 0153"),
    ("MSP-PODCAST_0153_0008.wav,0.5,12", "12"),
    # Of dialogs whose names carry F or M, the turn's own letter is the speaker's.
    ("Ses03M_script01_1b_F012,0.5,", "Ses03F"), ("Session3/Ses03M_impro08a_M001.wav,0.5,", "Ses03M"),
    ("Ses05M_script01_1b_FXX0,0.5,", "Ses05F"),
])
def test_who_varies_together(tmp_path: Path, row: str, cluster: str | None) -> None:
    assert read_labels(write(tmp_path, f"file,V,speaker\n{row}\n")).frame["cluster"].to_list() == [cluster]


def test_genders_and_languages_have_one_spelling(tmp_path: Path) -> None:
    frame = read_labels(write(tmp_path, "file,V,Sex,lang\na,1,F,de\nb,1,male,\nc,1,diverse,pt-BR\nd,1,Unknown,unknown\n"
                              "e,1,,English\nf,1,,Old Norse\n")).frame
    assert frame["gender"].to_list() == ["female", "male", "diverse", None, None, None]
    assert frame["language"].to_list() == ["de", None, "pt", None, "en", "Old Norse"]


def test_missing_labels_are_null(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, "file,v\na,\nb,NaN\nc,NA\nd,null\ne, 0.5 \n"))
    assert labels.frame["valence"].to_list() == [None, None, None, None, 0.5]


@pytest.mark.parametrize(("text", "says"), [
    ("file,path,valence\na,b,1\n", "'file' or 'path' may each be the recording"),
    ("file,valence,Val\na,1,2\n", "'valence' or 'Val' may each be the valence"),
    ("file,valence,valence\na,1,2\n", "2 columns are called 'valence'"),
    ("file,arousal,activation\na,1,2\n", "'arousal' or 'activation' may each be the arousal"),
    ("valence,arousal\n1,2\n", "no column names the recording (its columns are 'valence', 'arousal')"),
    ("file,emotion\na,happy\n", "no column holds valence, arousal or dominance"),
    ("file,start,valence\na,0,1\n", "'start' is the start of a segment, but no column is its end"),
    ("file,valence\na,happy\n", "line 2 has 'happy' under 'valence', which is not a number"),
    ("file,valence\na,1\nb,inf\n", "line 3 has 'inf' under 'valence', which is not a number"),
    ("file,valence\na,\"3,5\"\n", "line 2 has '3,5' under 'valence', which is not a number"),
    ("file,valence\na,1\nb,1,2\n", "line 3 has 3 cells, but the header has 2"),
    ("file,valence\na,1\n,2\n", "line 3 does not name its recording"),
    ("file,start,end,valence\na,2,2,1\n", "line 2 ends at 2 s, not after its start"),
    ("file,valence\na,\"1\nb,2\n", "breaks the rules of CSV"),
    ("file,valence\n", "the table has a header but no rows"),
    ("", "is empty"),
])
def test_what_cannot_be_read_without_guessing_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LabelError) as refused:
        read_labels(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize("content", [
    "file;start;end;valence\r\na.wav;0,5;2,25;6,50\r\n".encode("utf-8-sig"),
    "file\tstart\tend\tvalence\na.wav\t0,5\t2,25\t6,50\n".encode("utf-16"),
    b"sep=;\nfile;start;duration;valence\na.wav;0.5;1,75;6.5\n",
    b" file , start , end , valence \n a.wav , 0.5 , 2.25 , 6.50 \n",
    b"file,start,end,valence\na.wav,0 days 00:00:00.500,0 days 00:00:02.250000000,6.5\n",
    b"file,onset,offset,valence\na.wav,0:00.5,0:02.25,6.5\n",
    b"file,start_ms,end_ms,valence\na.wav,500,2250,6.5\n",
    b"file,start,end,valence,\na.wav,0.5,2.25,6.5,\n,,,,\n",
])
def test_labels_in_a_spreadsheet_s_dialect_read_as_any_other(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    labels = read_labels(tmp_path / "l.csv")
    assert labels.frame.select("recording", "start", "end", "valence").rows() == [("a.wav", 0.5, 2.25, 6.5)]


def test_audformat_s_segments_are_read_with_an_end_that_is_the_recording_s(tmp_path: Path) -> None:
    text = "file,start,end,arousal\na.wav,0 days,0 days 00:00:02.123456789,3\na.wav,0 days 00:00:02.123456789,,4\n"
    assert read_labels(write(tmp_path, text)).frame.select("start", "end").rows() == [(0.0, 2.123456789), (2.123456789, None)]


def test_a_line_number_counts_lines_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'file,text,valence\na,"two\nlines",1\nb,x,oops\n')
    with pytest.raises(LabelError, match="line 4 has 'oops'"):
        read_labels(path)


@pytest.mark.parametrize(("name", "content", "says"), [
    ("missing.csv", None, "cannot be read"),
    ("latin.csv", "file,valence\nM\xfcller.wav,1\n".encode("latin-1"), "is not UTF-8 text; save it as UTF-8"),
    ("not.parquet", b"file,valence\na,1\n", "damaged"),
    ("missing.parquet", None, "cannot be read"),
])
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=says):
        read_labels(tmp_path / name)


@pytest.mark.parametrize(("column", "says"), [
    (pl.Series([True, False]), "row 1 has 'True' under 'valence', which is not a number"),
    (pl.Series([[1.0], [2.0]]), "'valence' holds lists or bytes, not numbers"),
])
def test_a_parquet_column_of_another_type_is_refused(tmp_path: Path, column: pl.Series, says: str) -> None:
    pl.DataFrame({"file": ["a", "b"], "valence": column}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(LabelError, match=says):
        read_labels(tmp_path / "l.parquet")


def labelled(folder: Path, values: list[float], header: str = "file,valence") -> Path:
    return write(folder, header + "\n" + "".join(f"{i}.wav,{value}\n" for i, value in enumerate(values)))


@pytest.mark.parametrize("scale", KNOWN_SCALES)
@given(data=st.data())
def test_values_near_both_ends_show_their_scale_and_no_other(tmp_path_factory: pytest.TempPathFactory, scale: Scale,
                                                             data: st.DataObject) -> None:
    width = scale.high - scale.low
    low = data.draw(st.floats(scale.low, scale.low + REACH * width * 0.999))
    high = data.draw(st.floats(scale.high - REACH * width * 0.999, scale.high))
    inner = data.draw(st.lists(st.floats(low, high), max_size=5))
    resolved = resolve_scale(read_labels(labelled(tmp_path_factory.mktemp("labels"), [low, high, *inner])))
    assert resolved.scale == scale
    assert resolved.source.startswith("detected from values")


@pytest.mark.parametrize("values", [[0.4, 0.6], [3, 3, 3], [2, 4], [1.5, 5.5], [-5, 5], [0, 10], [1, 200], [0.5, 5], [-0.2, 0.9]])
def test_values_that_show_no_known_scale_are_refused(tmp_path: Path, values: list[float]) -> None:
    labels = read_labels(labelled(tmp_path, values))
    with pytest.raises(LabelError, match="give the scale with --scale LOW:HIGH"):
        resolve_scale(labels)
    resolved = resolve_scale(labels, Scale(min(values) - 1, max(values)))
    assert (resolved.source, resolved.outside) == ("given", 0)


def test_one_column_that_may_be_on_another_scale_is_refused(tmp_path: Path) -> None:
    text = "file,valence,arousal\na,-0.9,0.1\nb,0.9,0.95\n"
    labels = read_labels(write(tmp_path, text))
    with pytest.raises(LabelError, match=r"'arousal' is never below 0 and may be on 0\.\.1"):
        resolve_scale(labels)
    assert resolve_scale(labels, Scale(-1, 1)).scale == Scale(-1, 1)


def test_a_few_values_a_little_outside_a_scale_are_counted_and_many_refused(tmp_path: Path) -> None:
    labels = read_labels(labelled(tmp_path, [5.5, *[1.0, 2.0, 5.0] * 10]))
    assert resolve_scale(labels, Scale(1, 5)).outside == 1
    with pytest.raises(LabelError, match=r"21 of 31 values lie outside 0\.\.1, the scale given"):
        resolve_scale(labels, Scale(0, 1))


@pytest.mark.parametrize(("scale", "value"), [
    (Scale(1, 7), 99.0), (Scale(1, 7), -1.0), (Scale(1, 7), 0.0), (Scale(1, 5), 0.0), (Scale(1, 5), 6.0), (Scale(1, 9), 0.0),
    (Scale(0, 100), -1.0), (Scale(0, 100), 999.0), (Scale(0, 1), -1.0), (Scale(-1, 1), -9.0), (Scale(0, 1), 1.2),
])
def test_a_value_far_outside_a_scale_is_refused_by_its_row_or_ignored(tmp_path: Path, scale: Scale, value: float) -> None:
    path = labelled(tmp_path, [scale.low, scale.high, value])
    with pytest.raises(LabelError, match=rf"line 4 has {value:g} under 'valence', which is outside {scale}.*--ignore-outside"):
        resolve_scale(read_labels(path), scale)
    resolved = resolve_scale(read_labels(path), scale, ignore_outside=True)
    assert (resolved.ignored, resolved.outside) == (1, 0)
    assert resolved.labels.frame["valence"].to_list() == [scale.low, scale.high, None]


@pytest.mark.parametrize(("scale", "value"), [
    (Scale(1, 7), 7.0000001), (Scale(1, 5), 5.5), (Scale(0, 1), 1.0000001), (Scale(-1, 1), -1.05), (Scale(0, 100), 100.4),
])
def test_a_value_a_hair_outside_a_scale_stays(tmp_path: Path, scale: Scale, value: float) -> None:
    resolved = resolve_scale(read_labels(labelled(tmp_path, [value, *[scale.low, scale.high] * 10])), scale)
    assert (resolved.outside, resolved.ignored) == (1, 0)
    assert value in resolved.labels.frame["valence"]


def test_labels_that_are_mostly_outside_a_scale_are_on_another(tmp_path: Path) -> None:
    labels = read_labels(labelled(tmp_path, [20, 50, 80, 5]))
    with pytest.raises(LabelError, match="give the scale of these values"):
        resolve_scale(labels, Scale(1, 7), ignore_outside=True)


def test_rescaled_msp_labels_are_not_taken_for_1_to_7(tmp_path: Path) -> None:
    path = write(tmp_path, "FileName,EmoAct,EmoVal,EmoDom\na.wav,0.2,0.5,0.27\nb.wav,0.9,0.13,0.75\n")
    with pytest.raises(LabelError, match=r"lie outside 1\.\.7, the scale declared by MSP-Podcast"):
        resolve_scale(read_labels(path))
    assert resolve_scale(read_labels(path), Scale(0, 1)).source == "given"


def test_a_file_without_a_single_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no row has a number under 'valence'"):
        resolve_scale(read_labels(write(tmp_path, "file,valence\na,\nb,NA\n")))


@pytest.mark.parametrize(("text", "scale"), [("1:7", (1, 7)), ("-1:1", (-1, 1)), ("0:0.5", (0, 0.5))])
def test_a_scale_is_written_low_and_high(text: str, scale: tuple[float, float]) -> None:
    assert Scale.parse(text) == scale


@pytest.mark.parametrize("text", ["", "7", "7:1", "1:1", "1:2:3", "nan:1", "0:inf", "a:b"])
def test_another_writing_of_a_scale_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="LOW:HIGH"):
        Scale.parse(text)


@pytest.mark.parametrize(("name", "recording", "scale"), [
    ("ravdess/manifest.csv", "file", Scale(0, 1)), ("emodb/manifest.csv", "file", Scale(0, 1)),
    ("emodb_full/manifest.csv", "file", Scale(0, 1)), ("emobank/emobank.csv", "id", Scale(1, 5)),
])
def test_real_label_files_are_read_as_they_are(name: str, recording: str, scale: Scale) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not there")
    labels = read_labels(DATA / name)
    assert labels.columns["recording"] == recording
    assert labels.rated == ("valence", "arousal", "dominance")
    assert all(math.isfinite(v) for v in labels.frame["valence"])
    assert resolve_scale(labels).scale == scale


# How the corpora ship their labels: files laid out like the originals, awkward ones included.

TURN = ("EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
rating = st.floats(1, 7).map(lambda x: round(x, 6))
rated_turns = st.lists(
    st.fixed_dictionaries({
        "EmoClass": st.sampled_from("ASHUFDCNOX"), "EmoAct": rating, "EmoVal": rating, "EmoDom": rating,
        "SpkrID": st.sampled_from(["Unknown", "7", "1042"]), "Gender": st.sampled_from(["Male", "Female", "Unknown"]),
        "Split_Set": st.sampled_from(["Train", "Development", "Test1", "Test2"]),
    }).map(lambda turn: {key: turn[key] for key in TURN}), min_size=1, max_size=8)


def turn_name(i: int) -> str:
    return f"MSP-PODCAST_{i // 3:04d}_{i:04d}.wav"


def expected_of(turns: list[dict[str, Any]], *, known: bool = True) -> list[dict[str, Any]]:
    found = []
    for i, turn in enumerate(turns):
        speaker = None if turn["SpkrID"] == "Unknown" or not known else turn["SpkrID"]
        found.append({
            "recording": turn_name(i), "valence": turn["EmoVal"], "arousal": turn["EmoAct"], "dominance": turn["EmoDom"],
            "speaker": speaker, "gender": None if turn["Gender"] == "Unknown" or not known else turn["Gender"].lower(),
            "split": turn["Split_Set"] if known else None, "cluster": speaker or f"podcast {i // 3:04d}",
        })
    return found


def seen(labels: Labels) -> list[dict[str, Any]]:
    columns = ("recording", "valence", "arousal", "dominance", "speaker", "gender", "split", "cluster")
    return labels.frame.select(columns).to_dicts()


@settings(max_examples=30)
@given(turns=rated_turns, bom=st.booleans(), ending=st.sampled_from(["\n", "\r\n"]), strings=st.booleans())
def test_msp_podcast_consensus_as_csv_and_json(tmp_path_factory: pytest.TempPathFactory, turns: list[dict[str, Any]], bom: bool,
                                               ending: str, strings: bool) -> None:
    folder = tmp_path_factory.mktemp("labels")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=ending)
    writer.writerow(["FileName", *turns[0]])
    writer.writerows([turn_name(i), *turn.values()] for i, turn in enumerate(turns))
    (folder / "labels_consensus.csv").write_bytes(b"\xef\xbb\xbf" * bom + (text.getvalue() + ending).encode())
    by_name = {turn_name(i): {k: str(v) for k, v in turn.items()} if strings else turn for i, turn in enumerate(turns)}
    (folder / "labels_consensus.json").write_bytes(b"\xef\xbb\xbf" * bom + json.dumps(by_name).encode())
    (folder / "list.json").write_text(json.dumps([{"FileName": name, **turn} for name, turn in by_name.items()]))
    for name in ("labels_consensus.csv", "labels_consensus.json", "list.json"):
        labels = read_labels(folder / name)
        assert seen(labels) == expected_of(turns)
        assert (labels.format, labels.scale) == ("MSP-Podcast", Scale(1, 7))
        order = [role for role in labels.columns if role in ("valence", "arousal", "dominance")]
        assert order == ["arousal", "valence", "dominance"]  # as found in the file


workers = st.lists(st.tuples(rating, rating, rating), min_size=1, max_size=5)


def cell(worker: int, a: float, v: float, d: float) -> str:
    return f"WORKER{worker:08d}; Other-A: B; Happy,Amused; A:{a:f}; V:{v:f}; D:{d:f};"


@settings(max_examples=30)
@given(turns=rated_turns, ratings=st.lists(workers, min_size=8, max_size=8), ending=st.sampled_from(["\n", "\r\n"]))
def test_msp_podcast_ratings(tmp_path_factory: pytest.TempPathFactory, turns: list[dict[str, Any]],
                             ratings: list[list[tuple[float, float, float]]], ending: str) -> None:
    folder = tmp_path_factory.mktemp("labels")
    blocks, detailed, long, nested = [], [["FileName", "Details"]], [], {}
    for i, turn in enumerate(turns):
        name = turn_name(i)
        blocks.append(f"{name}; {turn['EmoClass']}; A:{turn['EmoAct']:f}; V:{turn['EmoVal']:f}; D:{turn['EmoDom']:f};")
        blocks += [cell(w, *values) for w, values in enumerate(ratings[i])] + [""]
        detailed += [[name, cell(w, *values)] for w, values in enumerate(ratings[i])]
        rows = [{"EmoClass_Major": "Happy", "EmoAct": a, "EmoVal": v, "EmoDom": d} for a, v, d in ratings[i]]
        long += [{"FileName": name, "Worker": w, **row} for w, row in enumerate(rows)]
        nested[name] = {f"WORKER{w:08d}": row for w, row in enumerate(rows)}
    (folder / "labels.txt").write_bytes((ending.join(blocks) + ending).encode())
    with (folder / "labels_detailed.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator=ending).writerows(detailed)
    with (folder / "long.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, long[0])
        writer.writeheader()
        writer.writerows(long)
    (folder / "labels_detailed.json").write_text(json.dumps(nested))

    assert seen(read_labels(folder / "labels.txt")) == expected_of(turns, known=False)
    for name in ("labels_detailed.csv", "long.csv", "labels_detailed.json"):
        labels = read_labels(folder / name)
        assert labels.scale == Scale(1, 7)
        assert "mean of each file's workers" in labels.format
        assert labels.frame["recording"].to_list() == [turn_name(i) for i in range(len(turns))]
        for place, dimension in enumerate(("arousal", "valence", "dominance")):
            means = [sum(r[place] for r in ratings[i]) / len(ratings[i]) for i in range(len(turns))]
            assert labels.frame[dimension].to_list() == pytest.approx(means, abs=1e-6)


@pytest.mark.parametrize(("name", "text", "says"), [
    ("labels.txt", "a.wav; N; A:2; V:4; D:2;\nstray\n", "line 2 is neither a consensus nor a worker's rating"),
    ("labels.txt", "a.wav; N; A:2; V:4; D:2;\n\nb.wav; N; A:2; V:four; D:2;\n", "line 3 has 'four' after V:, not a number"),
    ("labels_detailed.csv", 'FileName,x\na.wav,"W; A:2; V:4; D:2;"\na.wav,"W; A:2; D:2;"\n', "line 3 lacks V:"),
    ("labels.txt", "a.wav; N; A:2; V:inf; D:2;\n", "row 1 has inf as its valence"),
    ("labels.txt", "; N; A:2; V:4; D:2;\n", "row 1 does not name its recording"),
    ("l.json", "{", "is not JSON"), ("l.json", "3", "neither a list of objects, nor an object"),
    ("l.json", "[]", "neither a list of objects, nor an object"),
    ("l.json", '{"a.wav": {"V": 1}, "a.wav": {"V": 2}}', "one object has the key 'a.wav' twice"),
    ("l.json", '{"a.wav": {"V": "high"}}', "entry 1 has 'high' under 'V', which is not a number"),
    ("l.json", '[{"V": 1}]', "no column names the recording"),
])
def test_corpus_files_that_are_not_whole_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(LabelError) as refused:
        read_labels(write(tmp_path, text, name))
    assert says in str(refused.value)


def dialog(name: str, turns: list[tuple[str, str]], ending: str = "\n") -> bytes:
    """An EmoEvaluation file: a heading, and for each turn its line and the raters' own."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for i, (turn, numbers) in enumerate(turns):
        lines += [f"[{i + 6.2901:.4f} - {i + 7.2357:.4f}]\t{name}_{turn}\tneu\t[{numbers}]", "C-E2:\tNeutral;\t()",
                  f"C-{turn[0]}1:\tOther;\t(fr\xe9mi\x85[sic])", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
    return ending.join(lines).encode("latin-1")


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """A release of two sessions with what lies beside the evaluations in the original."""
    release = tmp_path / "IEMOCAP_full_release"
    for session, letter in ((1, "F"), (2, "M")):
        folder = release / f"Session{session}" / "dialog" / "EmoEvaluation"
        (folder / "Categorical").mkdir(parents=True)
        name = f"Ses0{session}{letter}_impro01"
        turns = [("F000", "2.5000, 3.5000, 4.0000"), ("M000", "5.5000, 2.0000, 1.0000")]
        (folder / f"{name}.txt").write_bytes(dialog(name, turns, "\r\n" if session == 2 else "\n"))
        script = f"Ses0{session}{letter}_script01_1b"
        (folder / f"{script}.txt").write_bytes(dialog(script, [("FXX0", "3.0, 3.0, 3.0")]))
        (folder / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
        (folder / "Categorical" / f"{name}_e2_cat.txt").write_text(f"{name}_F000 :Neutral state; ()\n")
    return release


def test_iemocap_is_read_from_its_folders(iemocap: Path) -> None:
    labels = read_labels(iemocap)
    assert (labels.format, labels.scale) == ("IEMOCAP EmoEvaluation, 4 dialogs", Scale(1, 5))
    assert [role for role in labels.columns if role in ("valence", "arousal", "dominance")] == ["valence", "arousal", "dominance"]
    columns = ("recording", "valence", "arousal", "dominance", "speaker", "gender", "split", "cluster")
    assert labels.frame.select(columns).rows() == [
        ("Ses01F_impro01_F000", 2.5, 3.5, 4.0, "Ses01F", "female", "Session1", "Ses01F"),
        ("Ses01F_impro01_M000", 5.5, 2.0, 1.0, "Ses01M", "male", "Session1", "Ses01M"),
        ("Ses01F_script01_1b_FXX0", 3.0, 3.0, 3.0, "Ses01F", "female", "Session1", "Ses01F"),
        ("Ses02M_impro01_F000", 2.5, 3.5, 4.0, "Ses02F", "female", "Session2", "Ses02F"),
        ("Ses02M_impro01_M000", 5.5, 2.0, 1.0, "Ses02M", "male", "Session2", "Ses02M"),
        ("Ses02M_script01_1b_FXX0", 3.0, 3.0, 3.0, "Ses02F", "female", "Session2", "Ses02F"),
    ]
    assert labels.frame["row"].to_list() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("below", "turns"), [
    ("..", 6), (".", 6), ("Session2", 3), ("Session1/dialog", 3), ("Session1/dialog/EmoEvaluation", 3),
    ("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", 2),
])
def test_any_part_of_iemocap_may_be_named(iemocap: Path, below: str, turns: int) -> None:
    assert read_labels(iemocap / below).frame.height == turns


@pytest.mark.parametrize(("line", "says"), [
    ("[6.2 - 8.2]\tSes01F_impro01_F000\tneu\t[2.5, 2.5]", "line 1 has [2.5, 2.5], not three numbers"),
    ("[6.2 - 8.2]\tSes01F_impro01_F000\tneu\t[2.5, x, 2.5]", "line 1 has [2.5, x, 2.5], not three numbers"),
    ("% [START_TIME - END_TIME] TURN_NAME EMOTION [A, V, D]", "line 1 gives the order [A, V, D]; msfser reads only [V, A, D]"),
    ("[6.2 - 8.2]\tSes01F_impro01_F000\tneu\t[2.5, inf, 2.5]", "row 1 has inf as its arousal"),
    ("[6.2 - 8.2] Ses01F_impro01", "line 1 is not a turn in IEMOCAP's format"),
    ("C-E2:\tNeutral;\t()", "no turn has"),
])
def test_a_dialog_that_is_not_iemocaps_is_refused(tmp_path: Path, line: str, says: str) -> None:
    folder = tmp_path / "EmoEvaluation"
    folder.mkdir()
    (folder / "Ses01F_impro01.txt").write_text(line + "\n")
    with pytest.raises(LabelError) as refused:
        read_labels(folder)
    assert says in str(refused.value)


def test_a_turn_without_an_average_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "[6.2 - 8.2]\tSes01F_impro01_F000\txxx\t[nan, 2.5, 2.5]\n", "Ses01F_impro01.txt")
    assert read_labels(path).frame.select("valence", "arousal").row(0) == (None, 2.5)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="the folder has no IEMOCAP labels"):
        read_labels(tmp_path)

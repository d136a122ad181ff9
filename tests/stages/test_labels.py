"""Label files are read by name, and refused by name where reading them would be guessing."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.errors import LabelError, UsageError
from msfser_cli.stages.labels import KNOWN_SCALES, REACH, Scale, read_labels, resolve_scale

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


def test_genders_have_one_spelling_and_languages_are_as_written(tmp_path: Path) -> None:
    frame = read_labels(write(tmp_path, "file,V,Sex,lang\na,1,F,de\nb,1,male,\nc,1,diverse,pt-BR\nd,1,Unknown,unknown\n")).frame
    assert frame["gender"].to_list() == ["female", "male", "diverse", None]
    assert frame["language"].to_list() == ["de", None, "pt-BR", None]


def test_missing_labels_are_null(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, "file,v\na,\nb,NaN\nc,NA\nd,null\ne, 0.5 \n"))
    assert labels.frame["valence"].to_list() == [None, None, None, None, 0.5]


@pytest.mark.parametrize(("text", "says"), [
    ("file,path,valence\na,b,1\n", "'file' or 'path' may each be the recording"),
    ("file,valence,Val\na,1,2\n", "'valence' or 'Val' may each be the valence"),
    ("file,valence,valence\na,1,2\n", "'valence' or 'valence' may each be the valence"),
    ("file,arousal,activation\na,1,2\n", "'arousal' or 'activation' may each be the arousal"),
    ("valence,arousal\n1,2\n", "no column names the recording (its columns are 'valence', 'arousal')"),
    ("file,emotion\na,happy\n", "no column holds valence, arousal or dominance"),
    ("file,start,valence\na,0,1\n", "'start' is the start of a segment, and no column is its end"),
    ("file,valence\na,happy\n", "line 2 has 'happy' under 'valence', not a number"),
    ("file,valence\na,1\nb,inf\n", "line 3 has 'inf' under 'valence', not a number"),
    ("file,valence\na,\"3,5\"\n", "line 2 has '3,5' under 'valence', not a number"),
    ("file,valence\na,1\nb,1,2\n", "line 3 has 3 cells, the header 2"),
    ("file,valence\na,1\n,2\n", "line 3 does not name its recording"),
    ("file,start,end,valence\na,2,2,1\n", "line 2 ends at 2 s, before it starts"),
    ("file,valence\na,\"1\nb,2\n", "breaks the rules of CSV"),
    ("file,valence\n", "holds no labels, only a header"),
    ("", "is empty"),
])
def test_what_cannot_be_read_without_guessing_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LabelError) as refused:
        read_labels(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_line_number_counts_lines_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'file,text,valence\na,"two\nlines",1\nb,x,oops\n')
    with pytest.raises(LabelError, match="line 4 has 'oops'"):
        read_labels(path)


@pytest.mark.parametrize(("name", "content", "says"), [
    ("missing.csv", None, "cannot be read"),
    ("latin.csv", "file,valence\nM\xfcller.wav,1\n".encode("latin-1"), "is not UTF-8 text"),
    ("not.parquet", b"file,valence\na,1\n", "cannot be read as Parquet"),
    ("missing.parquet", None, "cannot be read as Parquet"),
])
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LabelError, match=says):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("column", [pl.Series([True, False]), pl.Series([[1.0], [2.0]])])
def test_a_parquet_column_of_another_type_is_refused(tmp_path: Path, column: pl.Series) -> None:
    pl.DataFrame({"file": ["a", "b"], "valence": column}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(LabelError, match=r"'valence' holds .*, not numbers"):
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
    with pytest.raises(LabelError, match="give it with --scale LOW:HIGH"):
        resolve_scale(labels)
    resolved = resolve_scale(labels, Scale(min(values) - 1, max(values)))
    assert (resolved.source, resolved.outside) == ("given", 0)


def test_one_column_that_may_be_on_another_scale_is_refused(tmp_path: Path) -> None:
    text = "file,valence,arousal\na,-0.9,0.1\nb,0.9,0.95\n"
    labels = read_labels(write(tmp_path, text))
    with pytest.raises(LabelError, match=r"'arousal' is never below 0 and may be on 0\.\.1"):
        resolve_scale(labels)
    assert resolve_scale(labels, Scale(-1, 1)).scale == Scale(-1, 1)


def test_a_few_values_outside_a_given_scale_are_counted_and_many_refused(tmp_path: Path) -> None:
    labels = read_labels(labelled(tmp_path, [5.5, *[1.0, 2.0, 5.0] * 10]))
    assert resolve_scale(labels, Scale(1, 5)).outside == 1
    with pytest.raises(LabelError, match=r"21 of 31 values lie outside 0\.\.1, the scale given"):
        resolve_scale(labels, Scale(0, 1))


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

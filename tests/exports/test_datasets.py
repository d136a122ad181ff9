"""The files for whole tables, read by the libraries that they are for: datasets, audformat, DuckDB."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import soundfile

from kit.scored import LINEAGE, scored_row, write_scores
from msfser_cli.exports.export import Exported, export
from msfser_cli.exports.format import formats
from msfser_cli.exports.formats import hf
from msfser_cli.schemas import SAMPLE_RATE_HZ, LedgerLine
from msfser_cli.store.audio import decode, file_sha256
from msfser_cli.store.objects import location

pytestmark = pytest.mark.process  # decoding has its own


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A recording of two channels: 8 s of noise on the left, and less of it on the right."""
    noise = np.random.default_rng(0).normal(0, 0.1, (8 * SAMPLE_RATE_HZ, 2)) * (1.0, 0.25)
    (tmp_path / "corpus" / "show").mkdir(parents=True)
    soundfile.write(tmp_path / "corpus" / "show" / "a.wav", noise, SAMPLE_RATE_HZ)
    return tmp_path / "corpus"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[dict[str, Any]]]:
    """A function that loads a folder as a dataset, with sound as it is stored."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")

    def load(folder: Path) -> list[dict[str, Any]]:
        dataset = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert list(dataset) == ["train"]
        rows = dataset["train"]
        if "audio" in rows.features:
            assert rows.features["audio"] == datasets.Audio(SAMPLE_RATE_HZ)
            rows = rows.cast_column("audio", datasets.Audio(decode=False))
        return list(rows)

    return load


def rows(recording: str, *numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [scored_row(recording, i, [("Hello", i, i + 0.5), ("you", i + 0.5, i + 1.0)], emphasised=[0], **more) for i in numbers]


def test_a_dataset_has_all_columns(loaded: Callable[[Path], list[dict[str, Any]]], tmp_path: Path) -> None:
    table = write_scores(tmp_path / "x.parquet", [*rows("show/a.wav", 0, 1, speaker="Ann"), *rows("b.wav", 0)])
    export(table, formats("hf"), tmp_path / "out")
    read = loaded(tmp_path / "out" / "hf")
    assert [row["utterance_id"] for row in read] == ["b.wav#0000", "show/a.wav#0000", "show/a.wav#0001"]
    assert [word["word"] for word in read[1]["words"]] == ["Hello", "you"]
    assert (read[1]["speaker"], read[0]["speaker"], read[1]["arousal"]) == ("Ann", None, 0.5)
    assert read[1]["emphasis_spans"][0]["first_word"] == 0
    card = (tmp_path / "out" / "hf" / "README.md").read_text()
    assert all(f"| `{name}` |" in card for name in read[0])


@pytest.mark.parametrize(("channels", "channel"), [("mix", None), ("split", 1)])
def test_the_sound_is_that_of_the_utterance(
    loaded: Callable[[Path], list[dict[str, Any]]], corpus: Path, tmp_path: Path, channels: str, channel: int | None
) -> None:
    lineage = replace(LINEAGE, corpus_root=str(corpus), settings={"transcribe": {"channels": channels}})
    lines = [LedgerLine("show/a.wav", sha256=file_sha256(corpus / "show" / "a.wav")[0])]
    table = write_scores(tmp_path / "x.parquet", rows("show/a.wav", 0, 5, channel=channel), lines, lineage=lineage)
    assert export(table, formats("hf-audio"), tmp_path / "out").lacking == ()
    audio = decode(corpus / "show" / "a.wav", channels=channels).of_channel(channel)
    for row in loaded(tmp_path / "out" / "hf-audio"):
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
        assert rate == SAMPLE_RATE_HZ
        assert samples == pytest.approx(audio.clip(row["start"], row["end"]), abs=1e-4)
        assert row["audio"]["path"] == f"{row['utterance_id']}.flac"


def test_a_recording_that_cannot_be_heard_has_rows_without_sound(
    loaded: Callable[[Path], list[dict[str, Any]]], corpus: Path, tmp_path: Path
) -> None:
    table = write_scores(tmp_path / "x.parquet", [*rows("show/a.wav", 0), *rows("show/b.wav", 0), *rows("show/c.wav", 0)],
                         [LedgerLine("show/c.wav", sha256="0" * 64)])  # fmt: skip
    (corpus / "show" / "c.wav").write_bytes((corpus / "show" / "a.wav").read_bytes())
    done = export(table, formats("hf-audio"), tmp_path / "out", root=location(str(corpus)))
    assert done.lacking == (
        "2 utterances have no sound in hf-audio: show/b.wav: the file does not exist (No such file or directory); ...",
    )
    assert [row["audio"] is None for row in loaded(tmp_path / "out" / "hf-audio")] == [False, True, True]


def test_rows_beyond_the_recording_or_of_a_channel_that_it_lacks_have_no_sound(
    loaded: Callable[[Path], list[dict[str, Any]]], corpus: Path, tmp_path: Path
) -> None:
    made = [*rows("show/a.wav", 0), *rows("show/a.wav", 20), *rows("show/a.wav", 1, channel=7)]
    table = write_scores(tmp_path / "x.parquet", made)
    done = export(table, formats("hf-audio"), tmp_path / "out", root=location(str(corpus)))
    assert done.lacking == (
        "2 utterances have no sound in hf-audio: show/a.wav#0020: it lies after the end of the recording; ...",
    )
    assert [row["audio"] is None for row in loaded(tmp_path / "out" / "hf-audio")] == [False, True, True]


def test_another_table_in_the_same_folder_is_another_dataset(
    loaded: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    for text in ("one", "two"):  # the library remembers what it has loaded
        export(write_scores(tmp_path / "x.parquet", rows("a.wav", 0, text=text)), formats("hf"), tmp_path / "out")
        assert [row["text"] for row in loaded(tmp_path / "out" / "hf")] == [text]


def test_large_tables_are_cut_into_files_and_an_edited_file_costs_no_rows(
    loaded: Callable[[Path], list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf, "_SHARD_BYTES", 1000)
    table = write_scores(tmp_path / "x.parquet", [row for i in range(9) for row in rows(f"{i}.wav", *range(60))])
    export(table, formats("hf"), tmp_path / "out")
    data = tmp_path / "out" / "hf" / "data"
    assert len(list(data.iterdir())) == 5
    everything = [row["utterance_id"] for row in loaded(tmp_path / "out" / "hf")]
    assert len(set(everything)) == len(everything) == 540
    (data / "train-00001.parquet").write_bytes(b"mine")
    (data / "train-00003.parquet").unlink()
    assert export(table, formats("hf"), tmp_path / "out").kept == ("hf/data/train-00001.parquet",)
    assert export(table, formats("hf"), tmp_path / "out", overwrite=True).kept == ()
    assert [row["utterance_id"] for row in loaded(tmp_path / "out" / "hf")] == everything
    export(write_scores(tmp_path / "x.parquet", rows("0.wav", 0)), formats("hf"), tmp_path / "out")
    assert len(loaded(tmp_path / "out" / "hf")) == 1  # the files of before are there still, and are not of the dataset


def test_a_table_without_rows_is_a_file_without_rows(tmp_path: Path) -> None:
    export(write_scores(tmp_path / "x.parquet", []), formats("hf,hf-audio,csv,labelstudio"), tmp_path / "out")
    for name in ("hf", "hf-audio"):  # datasets itself refuses a dataset without rows
        frame = pd.read_parquet(tmp_path / "out" / name / "data" / "train-00000.parquet")
        assert len(frame) == 0
        assert {"utterance_id", "arousal"} <= set(frame.columns)


def test_audformat_reads_its_database(tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    quoted = scored_row("show/a.wav", 2, [('"a,\r\nb\r"', 3.0, 4.5)], valence=None)
    again = scored_row("show/a.wav", 3, [("again", 3.0, 4.5)])
    table = write_scores(tmp_path / "x.parquet", [*rows("show/a.wav", 0, 1, speaker="Ann"), quoted, again])
    done = export(table, formats("audformat"), tmp_path / "out")
    assert done.lacking == ("1 utterances have the times of another of their recording and are not in the audformat database",)
    database = audformat.Database.load(str(tmp_path / "out" / "audformat"))
    frame = database["utterances"].get()
    assert list(frame.index.names) == ["file", "start", "end"]
    assert frame.index[1] == ("show/a.wav", pd.Timedelta(seconds=1), pd.Timedelta(seconds=2))
    assert frame["text"].tolist() == ["Hello you", "Hello you", '"a,\r\nb\r"']
    assert frame["speaker"].tolist()[:2] == ["Ann", "Ann"]
    assert frame["arousal"].tolist() == [0.5, 0.5, 0.5]
    assert frame["valence"].isna().tolist() == [False, False, True]
    assert (database.schemes["valence"].minimum, database.schemes["valence"].maximum) == (0.0, 1.0)


def test_a_score_beyond_the_scale_or_that_is_not_a_number_is_exported(tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    table = write_scores(tmp_path / "x.parquet", [*rows("a.wav", 0, valence=1.5), *rows("a.wav", 1, arousal=float("nan"))])
    export(table, formats("audformat,json,labelstudio,csv"), tmp_path / "out")
    frame = audformat.Database.load(str(tmp_path / "out" / "audformat"))["utterances"].get()
    assert frame["valence"].tolist() == [1.5, 0.25]
    segments = json.loads((tmp_path / "out" / "a.json").read_text())["segments"]
    assert [segment.get("arousal") for segment in segments] == [0.5, None]


def test_the_csv_of_a_challenge_lacks_recordings_without_scores_and_says_so(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "x.parquet", [*rows("show/a.flac", 0), *rows("b.wav", 0, valence=None)])
    done = export(table, formats("submission"), tmp_path / "out")
    assert done == Exported(2, 0, 1, (), ("1 recordings have no score and are not in submission.csv",))
    assert (tmp_path / "out" / "submission.csv").read_text().splitlines()[1] == "a.wav,4.000000,2.500000,5.500000"


def test_duckdb_reads_the_table_and_the_csv(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "x.parquet", rows("show/a.wav", 0, 1, speaker='A "B", C'))
    export(table, formats("csv"), tmp_path / "out")
    words = duckdb.sql(f"select word.word, word.start from (select unnest(words) as word from '{table}')")
    assert words.fetchall() == [("Hello", 0), ("you", 0.5), ("Hello", 1), ("you", 1.5)]
    seen = duckdb.sql(f"select file, speaker, valence from '{tmp_path / 'out' / 'utterances.csv'}'").fetchall()
    assert seen == [("show/a.wav", 'A "B", C', 0.25)] * 2

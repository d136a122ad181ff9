"""Labels meet the scores that belong to them, and the agreement is the field's own."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.errors import LabelError, TableError
from msfser_cli.evaluation import evaluate as stage
from msfser_cli.evaluation import joining
from msfser_cli.evaluation.evaluate import BY, SMALL, Agreement, Sampling, agreement
from msfser_cli.evaluation.joining import SHARE
from msfser_cli.evaluation.labels import Labels, Scale, read_labels
from msfser_cli.evaluation.pairing import COLUMNS, ENDS, pair, read_scores, to_scale
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store import tables
from msfser_cli.store.lineage import Lineage

DATA = Path(__file__).parents[3] / "shared" / "data"
UNIT = Scale(0, 1)


def scores(*rows: tuple[str, float, float, float | None], names: tuple[str, ...] = ()) -> pl.DataFrame:
    """Utterances (recording, start, end, valence); arousal is 1 - valence, dominance .5."""
    return pl.DataFrame(
        [{"recording_id": recording, "utterance_id": names[i] if names else f"{recording}#{i:04d}", "start": start, "end": end,
          "valence": valence, "arousal": None if valence is None else 1 - valence, "dominance": 0.5}
         for i, (recording, start, end, valence) in enumerate(rows)],
        schema={c.name: pl.String if c.type == "string" else pl.Float64 for c in (*COLUMNS, *ENDS)},
    )


def labels_of(folder: Path, header: str, *rows: str) -> Labels:
    path = folder / "labels.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return read_labels(path)


def test_a_recording_scores_the_mean_of_its_utterances_weighted_by_duration(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 5, 8, 0.6), ("b.wav", 0, 2, 0.9), ("c.wav", 0, 2, 0.1))
    pairs = pair(table, labels_of(tmp_path, "file,valence", "b.wav,0.8", "a.wav,0.3", "x.wav,0.5"))
    assert pairs.joined.unit == "recording"
    assert pairs.frame["recording_id"].to_list() == ["b.wav", "a.wav"]
    assert pairs.frame["valence_score"].to_list() == pytest.approx([0.9, (0.2 * 1 + 0.6 * 3) / 4])
    assert pairs.joined.matched_by == {"recording_id": 2}
    assert (pairs.joined.labels.count, pairs.joined.labels.of, pairs.joined.labels.examples) == (1, 3, ("x.wav",))
    assert (pairs.joined.recordings.count, pairs.joined.recordings.of, pairs.joined.recordings.examples) == (1, 3, ("c.wav",))
    utterances = pairs.joined.utterances
    assert (utterances.count, utterances.of, utterances.examples) == (1, 4, ("c.wav#0003",))


def test_an_utterance_without_a_score_does_not_weigh(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 5, 8, None), ("b.wav", 0, 1, None))
    pairs = pair(table, labels_of(tmp_path, "file,valence", "a.wav,0.3", "b.wav,0.3"))
    assert pairs.frame["valence_score"].to_list() == [pytest.approx(0.2), None]
    assert pairs.frame["dominance_score"].to_list() == [0.5, 0.5]


def test_segments_take_the_utterances_that_belong_to_them(tmp_path: Path) -> None:
    table = scores(
        ("a.wav", 0.0, 2.0, 0.1),  # all of it in the first segment
        ("a.wav", 2.2, 4.2, 0.5),  # 1.8 s in the first, .2 s in the second
        ("a.wav", 5.0, 9.0, 0.9),  # holds the third segment and ends the second
        ("a.wav", 20.0, 22.0, 0.3),  # in no segment
    )
    labels = labels_of(tmp_path, "file,start,end,valence", "a.wav,0,4,0.1", "a.wav,4,5.5,0.1", "a.wav,6,7,0.1", "a.wav,30,31,0.1")
    pairs = pair(table, labels)
    assert pairs.joined.unit == "segment"
    assert pairs.frame["row"].to_list() == [2, 4]
    assert pairs.frame["valence_score"].to_list() == pytest.approx([(0.1 * 2 + 0.5 * 1.8) / 3.8, 0.9])
    assert pairs.joined.labels.count == 2
    assert pairs.joined.utterances.examples == ("a.wav#0003",)
    assert pairs.joined.recordings.count == 0


def test_an_open_segment_reaches_to_the_end_of_the_recording(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 1, 2, 0.4), ("a.wav", 2, 3, 0.9))
    pairs = pair(table, labels_of(tmp_path, "file,start,end,valence", "a.wav,1,,0.3", "a.wav,,1,0.3"))
    assert pairs.frame["valence_score"].to_list() == pytest.approx([0.65, 0.2])


def test_utterance_ids_are_joined_exactly(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 1, 2, 0.4), ("b.wav", 0, 1, 0.6))
    pairs = pair(table, labels_of(tmp_path, "utterance_id,V", "b.wav#0002,0.5", "a.wav#0001,0.1", "a.wav#0009,0.1"))
    assert pairs.joined.unit == "utterance"
    assert pairs.frame["valence_score"].to_list() == [0.6, 0.4]
    assert pairs.joined.matched_by == {"utterance_id": 2}
    assert (pairs.joined.labels.examples, pairs.joined.utterances.examples) == (("a.wav#0009",), ("a.wav#0000",))


def test_a_corpus_own_utterance_names_stand_for_recordings(tmp_path: Path) -> None:
    table = scores(("x/Ses01F_impro01_F000.wav", 0, 1, 0.2), ("x/Ses01F_impro01_F001.wav", 0, 1, 0.4))
    pairs = pair(table, labels_of(tmp_path, "utterance_id,V", "Ses01F_impro01_F001,0.5", "Ses01F_impro01_F000,0.1"))
    assert pairs.joined.unit == "recording"
    assert pairs.frame["valence_score"].to_list() == [0.4, 0.2]


@pytest.mark.parametrize(("header", "rows", "says"), [
    ("file,valence", ("a.wav,1", "b.wav,1", "a.wav,1"), "'a.wav' is labelled more than once (rows 2, 4)"),
    ("file,start,end,valence", ("a.wav,0,1,1", "a.wav,0,1,1"), "'a.wav' is labelled more than once"),
    ("file,utterance_id,valence", ("a.wav,a.wav#0000,1", "a.wav,a.wav#0000,1"), "'a.wav#0000' is labelled more than once"),
    ("file,valence", ("y.wav,1", "z.wav,1"), "'z.wav', the utterances are of 'a.wav', 'b.wav'"),
    ("file,start,end,valence", ("a.wav,7,8,1",), "no label matches an utterance"),
])
def test_a_join_that_needs_guessing_is_refused(tmp_path: Path, header: str, rows: tuple[str, ...], says: str) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("b.wav", 0, 1, 0.4))
    with pytest.raises(LabelError) as refused:
        pair(table, labels_of(tmp_path, header, *rows))
    assert says in str(refused.value)


times = st.floats(0, 100).map(lambda x: round(x, 2))


@st.composite
def utterances_and_segments(draw: st.DrawFn) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    spans = st.tuples(st.sampled_from("abc"), times, st.floats(0.05, 20).map(lambda x: round(x, 2)), st.floats(0, 1))
    made = [(r + ".wav", s, round(s + d, 2), v) for r, s, d, v in draw(st.lists(spans, min_size=1, max_size=12))]
    wanted = [(r + ".wav", s, round(s + d, 2), v) for r, s, d, v in draw(st.lists(spans, min_size=1, max_size=12))]
    return made, list({row[:3]: row for row in wanted}.values())


@given(both=utterances_and_segments(), order=st.randoms())
def test_segment_scores_are_those_of_the_plain_definition(tmp_path_factory: pytest.TempPathFactory,
                                                          both: tuple[Any, Any],
                                                          order: random.Random) -> None:
    made, wanted = both
    table = scores(*made)
    expected = {}
    for i, (recording, start, end, _) in enumerate(wanted):
        overlaps = [(min(end, e) - max(start, s), e - s, v) for r, s, e, v in made if r == recording]
        parts = [(shared, v) for shared, length, v in overlaps if shared > 0 and shared >= SHARE * min(length, end - start)]
        if parts:
            expected[i + 2] = sum(shared * v for shared, v in parts) / sum(shared for shared, _ in parts)
    labels = labels_of(tmp_path_factory.mktemp("labels"), "file,start,end,v", *(f"{r},{s},{e},{v}" for r, s, e, v in wanted))
    if not expected:
        with pytest.raises(LabelError):
            pair(table, labels)
        return
    pairs = pair(table, labels)
    assert dict(zip(pairs.frame["row"], pairs.frame["valence_score"], strict=True)) == pytest.approx(expected, abs=1e-12)
    assert pairs.frame.height + pairs.joined.labels.count == pairs.joined.labels.of == len(wanted)
    shuffled = pair(table.sample(fraction=1, shuffle=True, seed=order.randrange(1000)), labels)
    assert shuffled.frame.equals(pairs.frame)


def test_many_segments_of_a_long_recording_are_joined_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = scores(*(("a.wav", i, i + 1, i / 50) for i in range(50)))
    labels = labels_of(tmp_path, "file,start,end,v", *(f"a.wav,{i},{i + 2},{i / 50}" for i in range(49)))
    whole = pair(table, labels)
    monkeypatch.setattr(joining, "_CELLS_AT_ONCE", 120)
    batched = pair(table, labels)
    assert batched.frame.equals(whole.frame)
    assert batched.frame.height == 49
    assert batched.joined.utterances == whole.joined.utterances


def agree(label: pl.Series, score: pl.Series, score_scale: Scale = UNIT, label_scale: Scale = UNIT) -> Agreement:
    """Agreement of one dimension, each pair a cluster of its own."""
    parts = {f"{d}_{part}": score for d in ("valence", "arousal", "dominance") for part in ("score", "low", "high")}
    score = to_scale(pl.DataFrame(parts), score_scale, label_scale)["valence_score"]
    return agreement(label, score, pl.Series(range(len(label)), dtype=pl.Int64), Sampling(resamples=100))


numbers = st.floats(0, 1, allow_subnormal=False).map(lambda x: round(x, 6))


@given(rows=st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40),
       scale=st.sampled_from([UNIT, Scale(1, 7), Scale(-1, 1)]))
def test_ccc_is_audmetrics(rows: list[tuple[float, float]], scale: Scale) -> None:
    label = np.array([x for x, _ in rows]) * (scale.high - scale.low) + scale.low
    score = np.array([y for _, y in rows])
    found = agree(pl.Series(label), pl.Series(score), UNIT, scale)
    expected = audmetric.concordance_cc(label, scale.low + score * (scale.high - scale.low))
    if math.isnan(expected):
        assert math.isnan(found.ccc)
    elif label.std() > 1e-6 or score.std() > 1e-6:
        assert found.ccc == pytest.approx(expected, abs=1e-12)
    assert found.n == len(rows)


@given(rows=st.lists(st.tuples(numbers, numbers), min_size=3, max_size=20, unique_by=(lambda r: r[0], lambda r: r[1])))
def test_errors_are_in_the_labels_units_and_correlations_have_none(rows: list[tuple[float, float]]) -> None:
    label, score = (pl.Series(side) for side in zip(*rows, strict=True))
    own = agree(label, score, UNIT, UNIT)
    wide = agree(label * 6 + 1, score, UNIT, Scale(1, 7))
    assert wide.rmse == pytest.approx(6 * own.rmse, abs=1e-12)
    assert wide.mae == pytest.approx(6 * own.mae, abs=1e-12)
    assert wide.ccc == pytest.approx(own.ccc, abs=1e-9)
    assert wide.pearson == pytest.approx(own.pearson, abs=1e-6)


def test_known_numbers() -> None:
    found = agree(pl.Series([1.0, 2.0, 3.0]), pl.Series([2.0, 2.0, 5.0]), Scale(0, 6), Scale(0, 6))
    # Means 2 and 3, variances 2/3 and 2, covariance 1: CCC = 2 / (8/3 + 1).
    assert found.ccc == pytest.approx(6 / 11)
    assert found.pearson == pytest.approx(1 / math.sqrt(4 / 3))
    assert found.rmse == pytest.approx(math.sqrt(5 / 3))
    assert found.mae == pytest.approx(1)


def test_missing_labels_and_scores_are_skipped_and_counted() -> None:
    found = agree(pl.Series([0.1, None, 0.3, None, 0.9]), pl.Series([0.2, 0.3, None, None, 0.8]), UNIT, UNIT)
    assert (found.n, found.unlabelled, found.unscored, found.not_defined) == (2, 2, 1, None)


@pytest.mark.parametrize(("label", "score", "defined", "says"), [
    ([], [], (), "CCC and Pearson are undefined: they need at least two pairs, but there are 0"),
    ([0.5], [0.4], ("rmse", "mae"), "CCC and Pearson are undefined: they need at least two pairs, but there is one"),
    ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1], ("rmse", "mae"),
     "CCC and Pearson are undefined: all labels and all scores are the same number"),
    ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3], ("ccc", "rmse", "mae"), "Pearson is undefined: all labels are the same number"),
    ([0.1, 0.2, 0.3], [0.1, 0.1, 0.1], ("ccc", "rmse", "mae"), "Pearson is undefined: all scores are the same number"),
])
def test_what_is_not_defined_is_said(label: list[float], score: list[float], defined: tuple[str, ...], says: str) -> None:
    found = agree(pl.Series(label, dtype=pl.Float64), pl.Series(score, dtype=pl.Float64), UNIT, UNIT)
    assert found.not_defined == says
    for name in ("ccc", "pearson", "rmse", "mae"):
        assert math.isfinite(getattr(found, name)) == (name in defined)


def write_scores(path: Path, table: pl.DataFrame, extra: dict[str, Any] | None = None) -> Path:
    extra = {"scale": [0, 1]} if extra is None else extra
    lineage = Lineage(stage="predict", tool_version="0", fingerprint="0", extra=extra)
    tables.write_rows(path, table.to_dicts(), COLUMNS, lineage)
    return path


def test_evaluate_reads_both_files_and_reports_every_row(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 1, 3, 0.5), ("b.wav", 0, 1, 0.9), ("c.wav", 0, 1, 0.1))
    gold = tmp_path / "gold.csv"
    gold.write_text("FileName,EmoClass,EmoAct,EmoVal,EmoDom\na.wav,N,2,3.1,4\nb.wav,H,6,,5\nz.wav,H,6,6,7\n")
    found = stage.evaluate(write_scores(tmp_path / "scores.parquet", table), gold)
    assert (found.label_format, found.unit, found.matched) == ("MSP-Podcast", "recording", 2)
    assert (found.label_scale, found.score_scale) == (Scale(1, 7), UNIT)
    assert (found.unmatched_labels.count, found.unmatched_recordings.count, found.unmatched_utterances.count) == (1, 1, 1)
    # a.wav's valence is (.2 + 2 x .5) / 3 = .4, on 1..7 3.4; its arousal .6 is 4.6, and b.wav's .1 is 1.6.
    assert found.dimensions["valence"].n == 1
    assert found.dimensions["valence"].unlabelled == 1
    assert found.dimensions["valence"].mae == pytest.approx(0.3)
    assert found.dimensions["arousal"].rmse == pytest.approx(math.sqrt((2.6**2 + 4.4**2) / 2))
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["dimensions"]["valence"]["ccc"] is None
    assert document["dimensions"]["valence"]["not_defined"] == found.dimensions["valence"].not_defined
    assert found.dimensions["valence"].not_defined == (
        "CCC and Pearson are undefined: they need at least two pairs, but there is one"
    )
    assert document["dimensions"]["dominance"]["ccc"] == found.dimensions["dominance"].ccc == 0
    assert document["label_scale"] == {"low": 1, "high": 7}


@pytest.mark.parametrize(("extra", "says"), [
    ({}, "does not say the scale of its scores"),
    ({"scale": "0..1"}, "does not say the scale of its scores"),
    ({"scale": [1, 0]}, "1..0, is not valid"),
])
def test_scores_without_a_scale_are_refused(tmp_path: Path, extra: dict[str, Any], says: str) -> None:
    path = write_scores(tmp_path / "scores.parquet", scores(("a.wav", 0, 1, 0.2)), extra)
    with pytest.raises(TableError, match=says):
        read_scores(path)


def test_tables_that_are_not_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist; write it with msfser predict"):
        read_scores(tmp_path / "scores.parquet")
    with pytest.raises(TableError, match="has no utterances"):
        read_scores(write_scores(tmp_path / "empty.parquet", scores()))
    twice = scores(("a.wav", 0, 1, 0.2), ("a.wav", 1, 2, 0.3), names=("x", "x"))
    with pytest.raises(TableError, match="has the utterance 'x' more than once"):
        read_scores(write_scores(tmp_path / "twice.parquet", twice))
    lineage = Lineage(stage="transcribe", tool_version="0", fingerprint="0")
    tables.write_rows(tmp_path / "u.parquet", scores(("a.wav", 0, 1, 0.2)).to_dicts(), COLUMNS[:5], lineage)
    with pytest.raises(TableError, match="without the column 'valence'; `msfser predict` writes it"):
        read_scores(tmp_path / "u.parquet")


def test_a_folder_of_parts_is_one_table_if_it_has_one_scale(tmp_path: Path) -> None:
    write_scores(tmp_path / "1.parquet", scores(("a.wav", 0, 1, 0.2)))
    write_scores(tmp_path / "2.parquet", scores(("b.wav", 0, 1, math.nan)))
    frame, scale = read_scores(tmp_path)
    assert frame["valence"].to_list() == [0.2, None]
    assert scale == UNIT
    write_scores(tmp_path / "3.parquet", scores(("c.wav", 0, 1, 0.2)), {"scale": [1, 7]})
    with pytest.raises(TableError, match=r"different scales, 0\.\.1 and 1\.\.7"):
        read_scores(tmp_path)


@pytest.mark.parametrize("named", [lambda file: file, lambda file: file.split("/")[-1]])
@pytest.mark.parametrize("corpus", ["ravdess", "emodb"])
def test_a_manifest_of_mapped_labels_is_scored_as_it_is(tmp_path: Path, corpus: str, named: Callable[[str], str]) -> None:
    manifest = DATA / corpus / "manifest.csv"
    if not manifest.exists():
        pytest.skip(f"{manifest} is not there")
    gold = read_labels(manifest).frame
    noise = random.Random(0)
    truth, rows = gold["valence"].to_list(), []
    for file, value in zip(gold["recording"], truth, strict=True):
        score = min(max(value + noise.gauss(0, 0.2), 0), 1)
        # Two utterances whose duration-weighted mean is the score.
        rows += [(named(file), 0.0, 1.0, score + 0.03), (named(file), 1.5, 4.5, score - 0.01)]
    found = stage.evaluate(write_scores(tmp_path / "scores.parquet", scores(*rows)), manifest)
    assert found.label_scale == UNIT
    assert found.matched_by == {"recording_id" if named("a/b") == "a/b" else "end of the path": len(truth)}
    assert (found.unmatched_labels.count, found.unmatched_recordings.count) == (0, 0)
    predicted = [rows[2 * i][3] - 0.03 for i in range(len(truth))]
    assert found.dimensions["valence"].ccc == pytest.approx(audmetric.concordance_cc(truth, predicted), abs=1e-12)
    assert found.dimensions["arousal"].n == len(truth)


def shipped(folder: Path, speakers: int = 12, each: int = 8, seed: int = 0) -> tuple[Path, Path, pl.DataFrame]:
    """MSP-Podcast labels, scores for them on 0..1 with an interval each, and the numbers behind both, on 1..7."""
    rng = np.random.default_rng(seed)
    rows, lines = [], ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for i in range(speakers * each):
        speaker = i // each
        rated = np.round(rng.uniform(1, 7, 3), 1)
        scored = np.clip(rated + rng.normal(0, 1, 3), 1, 7)
        name = f"MSP-PODCAST_{speaker:04d}_{i:04d}.wav"
        split, gender = ("Test1", "Test2")[speaker % 3 == 0], ("Female", "Male")[speaker % 2]
        lines.append(f"{name},N,{rated[1]},{rated[0]},{rated[2]},{speaker},{gender},{split}")
        rows.append({"name": name, "split": split, "gender": gender.lower(), "speaker": str(speaker), "duration": 1.0 + i % 14,
                     **{f"{d}_rated": rated[j] for j, d in enumerate(DIMENSIONS)},
                     **{d: scored[j] for j, d in enumerate(DIMENSIONS)}})
    (folder / "labels_consensus.csv").write_text("\n".join(lines) + "\n")
    known = pl.DataFrame(rows)
    table = known.select(
        pl.col("name").alias("recording_id"), (pl.col("name") + "#0000").alias("utterance_id"), pl.lit(0.5).alias("start"),
        (0.5 + pl.col("duration")).alias("end"), pl.lit(None, pl.String).alias("speaker"),
        *((pl.col(d) - 1) / 6 for d in DIMENSIONS),
    ).with_columns((pl.col(d) + by).alias(f"{d}_{end}") for d in DIMENSIONS for end, by in (("low", -0.205), ("high", 0.205)))
    lineage = Lineage(stage="predict", tool_version="0", fingerprint="0", extra={"scale": [0, 1], "level": 0.9})
    tables.write_rows(folder / "scores.parquet", table.to_dicts(), (*COLUMNS, *ENDS), lineage)
    return folder / "scores.parquet", folder / "labels_consensus.csv", known


FEW = 200
"""Resamples, where the test is not about their number."""


def test_intervals_are_around_their_numbers_and_repeatable(tmp_path: Path) -> None:
    scored, gold, _ = shipped(tmp_path)
    found = stage.evaluate(scored, gold, resamples=FEW)
    assert found.clusters == {"speaker": 12}
    assert found.splits == {"Test1": 64, "Test2": 32}
    for a in found.dimensions.values():
        for name, interval in a.intervals.items():
            assert interval.low < getattr(a, name) < interval.high
            assert (interval.clusters, interval.not_defined) == (12, None)
    assert stage.evaluate(scored, gold, resamples=FEW).dimensions == found.dimensions
    assert stage.evaluate(scored, gold, resamples=FEW, seed=1).dimensions != found.dimensions
    assert stage.evaluate(scored, gold, resamples=FEW, clusters="recording").clusters == {"recording": 96}


def test_unknown_speakers_are_grouped_by_podcast_and_others_by_recording(tmp_path: Path) -> None:
    table = scores(*((f"{name}.wav", 0, 1, i / 10) for i, name in enumerate(
        ("MSP-PODCAST_0001_0001", "MSP-PODCAST_0001_0002", "MSP-PODCAST_0002_0001", "x", "y", "z"))))
    gold = tmp_path / "gold.csv"
    gold.write_text("file,V,speaker\nMSP-PODCAST_0001_0001,0,Unknown\nMSP-PODCAST_0001_0002,.2,\nMSP-PODCAST_0002_0001,.4,7\n"
                    "x,.5,\ny,.9,Anna\nz,1,Anna\n")
    found = stage.evaluate(write_scores(tmp_path / "scores.parquet", table), gold, resamples=FEW)
    assert found.clusters == {"speaker": 2, "recording": 1, "podcast": 1}
    assert found.dimensions["valence"].intervals["ccc"].not_defined == "4 clusters, but at least 5 are needed"


def test_speakers_that_only_the_scores_know_are_the_clusters(tmp_path: Path) -> None:
    names = ["Anna", "Anna", "Ben", "Ben", "Unknown", "Unknown", None, "Cem"]
    table = scores(*((f"{i}.wav", 0, 1, i / 10) for i in range(8))).with_columns(speaker=pl.Series(names))
    table = pl.concat([table, scores(("8.wav", 0, 1, 0.2), ("8.wav", 1, 2, 0.3), ("9.wav", 0, 1, 0.2), ("9.wav", 1, 2, 0.3))
                      .with_columns(speaker=pl.Series(["Cem", "Cem", "Anna", "Ben"]))])
    labels = labels_of(tmp_path, "file,V,speaker", *(f"{i}.wav,{i / 10},{'Dora' if i == 3 else ''}" for i in range(10)))
    frame = pair(table, labels).frame
    assert frame["speaker"].to_list() == ["Anna", "Anna", "Ben", "Dora", None, None, None, "Cem", "Cem", None]
    assert frame["cluster"].to_list() == frame["speaker"].to_list()
    found = stage.evaluate(write_scores(tmp_path / "scores.parquet", table), labels.path, by=("speaker",), resamples=FEW)
    assert found.clusters == {"speaker": 4, "recording": 4}
    assert [group.name for group in found.groups[0].groups] == ["Anna", "Ben", "Cem", "Dora"]
    podcast = labels_of(tmp_path, "file,V", "MSP-PODCAST_0001_0001.wav,0", "MSP-PODCAST_0001_0002.wav,1")
    table = scores(("MSP-PODCAST_0001_0001.wav", 0, 1, 0), ("MSP-PODCAST_0001_0002.wav", 0, 1, 0))
    assert pair(table.with_columns(speaker=pl.Series(["7", None])), podcast).frame["cluster"].to_list() == ["7", "podcast 0001"]


def test_one_split_alone(tmp_path: Path) -> None:
    scored, gold, known = shipped(tmp_path)
    found = stage.evaluate(scored, gold, split="Test2", resamples=FEW)
    of = known.filter(pl.col("split") == "Test2")
    assert (found.split, found.matched, found.dimensions["valence"].n) == ("Test2", of.height, of.height)
    expected = audmetric.concordance_cc(of["valence_rated"], of["valence"])
    assert found.dimensions["valence"].ccc == pytest.approx(expected, abs=1e-12)
    assert (found.unmatched_labels.count, found.unmatched_labels.of) == (0, of.height)
    assert found.unmatched_recordings.count == 0
    with pytest.raises(LabelError, match="has no split 'Test3'; choose from 'Test1', 'Test2'"):
        stage.evaluate(scored, gold, split="Test3", resamples=FEW)
    # The same as with labels of that split alone: speakers of other splits are not drawn.
    lines = gold.read_text().splitlines()
    gold.write_text("\n".join([lines[0], *(line for line in lines if line.endswith("Test2"))]) + "\n")
    assert stage.evaluate(scored, gold, resamples=FEW).dimensions == found.dimensions


@pytest.mark.parametrize("by", BY)
def test_groups_are_those_of_the_labels(tmp_path: Path, by: str) -> None:
    scored, gold, known = shipped(tmp_path)
    if by == "language":
        with pytest.raises(LabelError, match="has no language; leave out --by language"):
            stage.evaluate(scored, gold, by=(by,), resamples=FEW)
        return
    [groups] = stage.evaluate(scored, gold, by=(by,), resamples=FEW).groups
    if by == "duration":
        assert [g.name for g in groups.groups] == ["under 3 s", "3 to 5 s", "5 to 8 s", "8 to 12 s", "12 s and more"]
        starts = {"under 3 s": (0, 3), "3 to 5 s": (3, 5), "5 to 8 s": (5, 8), "8 to 12 s": (8, 12), "12 s and more": (12, 99)}
        of = {name: known.filter(pl.col("duration").is_between(*ends, closed="left")) for name, ends in starts.items()}
    else:
        of = {name: known.filter(pl.col(by) == name) for name in known[by].unique()}
    assert {g.name for g in groups.groups} == set(of)
    assert (groups.by, groups.unknown) == (by, 0)
    for group in groups.groups:
        rows = of[group.name]
        assert group.n == dict.fromkeys(DIMENSIONS, rows.height)
        assert group.clusters == (rows.height if by == "speaker" else rows["speaker"].n_unique())
        assert group.small == (rows.height < SMALL or group.clusters < 10)
        for d in DIMENSIONS:
            assert group.ccc[d] == pytest.approx(audmetric.concordance_cc(rows[f"{d}_rated"], rows[d]), abs=1e-9)
    assert bool(groups.gap) == (by == "gender")
    for d, gap in groups.gap.items():
        female, male = (audmetric.concordance_cc(of[g][f"{d}_rated"], of[g][d]) for g in ("female", "male"))
        assert (gap.ccc, gap.other) == pytest.approx((female, male), abs=1e-9)
        assert gap.difference == pytest.approx(female - male, abs=1e-9)
        assert gap.interval.low < gap.difference < gap.interval.high


def test_a_group_whose_labels_are_one_number_is_not_certain_of_its_zero(tmp_path: Path) -> None:
    rows = [f"{speaker}{i}.wav,{0.5 if gender == 'm' else i / 4},{speaker}{gender},{gender}"
            for gender in "fm" for speaker in "abcdef" for i in range(4)]
    labels = labels_of(tmp_path, "file,valence,speaker,gender", *(row.replace(".wav", f"{row[-1]}.wav") for row in rows))
    named = [(name, 0.0, 1.0, i % 7 / 7) for i, name in enumerate(labels.frame["recording"])]
    pairs = stage._with_clusters(pair(scores(*named), labels).frame, "speaker")
    varied, constant = stage.groups(labels, pairs, "gender", Sampling(FEW)).groups
    assert (varied.name, varied.intervals["valence"].not_defined) == ("female", None)
    assert constant.ccc["valence"] == pytest.approx(0, abs=1e-9)
    assert constant.intervals["valence"].not_defined == stage.CONSTANT


def test_speakers_without_a_rating_are_not_drawn(tmp_path: Path) -> None:
    scored, gold, _ = shipped(tmp_path)
    whole = stage.evaluate(scored, gold, resamples=FEW).dimensions["valence"]
    header, *lines = gold.read_text().splitlines()
    extra = [f"x{i}.wav,N,4,,4,{900 + i},Male,Test1" for i in range(20)]
    gold.write_text("\n".join([header, *lines, *extra]) + "\n")
    table = pl.read_parquet(scored)
    more = table.head(20).with_columns(recording_id=pl.Series([f"x{i}.wav" for i in range(20)]),
                                       utterance_id=pl.Series([f"x{i}.wav#0000" for i in range(20)]))
    both = write_scores(tmp_path / "both.parquet", pl.concat([table, more]).select(c.name for c in COLUMNS))
    found = stage.evaluate(both, gold, resamples=FEW)
    assert found.dimensions["valence"].intervals == whole.intervals
    assert found.dimensions["arousal"].intervals["ccc"].clusters == 32
    [groups] = stage.evaluate(both, gold, by=("split",), resamples=FEW).groups
    assert [group.intervals["valence"].clusters for group in groups.groups] == [8, 4]


def test_two_systems_are_compared_on_the_labels_that_both_score(tmp_path: Path) -> None:
    scored, gold, known = shipped(tmp_path)
    rng = np.random.default_rng(9)
    worse = known.head(81).select(
        pl.col("name").alias("recording_id"), (pl.col("name") + "#0000").alias("utterance_id"), pl.lit(0.0).alias("start"),
        pl.col("duration").alias("end"), pl.lit(None, pl.String).alias("speaker"),
        *(pl.col(d) + pl.Series([*rng.normal(0, 1, 80), math.nan]) for d in DIMENSIONS))
    other = write_scores(tmp_path / "other.parquet", worse, {"scale": [1, 7]})
    found = stage.evaluate(scored, gold, vs=other, resamples=FEW)
    assert found.other == str(other)
    for d, compared in found.differences.items():
        ours = audmetric.concordance_cc(known[f"{d}_rated"][:80], known[d][:80])
        theirs = audmetric.concordance_cc(known[f"{d}_rated"][:80], worse[d][:80])
        assert (compared.n, compared.interval.clusters) == (80, 10)
        assert (compared.ccc, compared.other) == pytest.approx((ours, theirs), abs=1e-9)
        assert compared.difference == pytest.approx(ours - theirs, abs=1e-9)
        # Paired: far shorter than what the two intervals would allow.
        alone = found.dimensions[d].intervals["ccc"]
        assert 0 < compared.interval.low < compared.difference < compared.interval.high
        assert compared.interval.high - compared.interval.low < 2 * (alone.high - alone.low)
    same = stage.evaluate(scored, gold, vs=scored, resamples=FEW).differences["valence"]
    assert (same.difference, same.interval.low, same.interval.high) == (0, 0, 0)


def test_the_scores_own_intervals_are_checked_in_the_labels_scale(tmp_path: Path) -> None:
    scored, gold, known = shipped(tmp_path)
    found = stage.evaluate(scored, gold, resamples=FEW).coverage
    for d in DIMENSIONS:
        # .205 on 0..1 is 1.23 on 1..7.
        inside = float(((known[f"{d}_rated"] - known[d]).abs() <= 1.23).mean())
        assert found[d].share == pytest.approx(inside)
        assert (found[d].n, found[d].width, found[d].level) == (96, pytest.approx(2.46), 0.9)
    assert not stage.evaluate(scored, gold, resamples=FEW).is_calibrated_on_gold
    lineage = tables.read_lineage(scored)
    same = replace(lineage, settings={"predict": {"calibrated_on": hashlib.sha256(gold.read_bytes()).hexdigest()}})
    kinds = [c for c in (*COLUMNS, *ENDS) if c.name in tables.open_file(scored)[0].schema_arrow.names]
    tables.write_rows(scored, tables.read(scored, kinds).to_pylist(), kinds, same)
    assert stage.evaluate(scored, gold, resamples=FEW).is_calibrated_on_gold
    plain = scores(("a.wav", 0, 1, 0.2), ("b.wav", 0, 1, 0.9))
    (tmp_path / "plain.csv").write_text("file,V\na,0\nb,1\n")
    assert stage.evaluate(write_scores(tmp_path / "plain.parquet", plain), tmp_path / "plain.csv", resamples=FEW).coverage == {}


def test_a_label_of_several_utterances_has_no_interval(tmp_path: Path) -> None:
    table = scores(("a.wav", 0, 1, 0.2), ("a.wav", 1, 2, 0.4), ("b.wav", 0, 1, 0.6)).with_columns(
        *(pl.lit(end).alias(f"{d}_{name}") for d in DIMENSIONS for name, end in (("low", 0.1), ("high", 0.7))))
    pairs = pair(table, labels_of(tmp_path, "file,V", "a.wav,0.5", "b.wav,0.5")).frame
    assert pairs["valence_low"].to_list() == [None, 0.1]
    assert pairs["duration"].to_list() == [2.0, 1.0]


def test_json_holds_intervals_and_groups(tmp_path: Path) -> None:
    scored, gold, _ = shipped(tmp_path)
    found = stage.evaluate(scored, gold, vs=scored, by=("gender", "split"), resamples=FEW)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(document["dimensions"]["valence"]["intervals"]) == {"ccc", "pearson", "rmse", "mae"}
    assert document["dimensions"]["valence"]["intervals"]["ccc"]["clusters"] == 12
    assert [g["by"] for g in document["groups"]] == ["gender", "split"]
    assert document["groups"][0]["gap"]["valence"]["interval"]["low"] < 0.5
    assert document["differences"]["arousal"]["difference"] == 0
    assert document["groups"][0]["groups"][0]["name"] == "female"

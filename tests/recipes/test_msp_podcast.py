"""recipes/msp_podcast from end to end, on a miniature of the corpus."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import miniature_msp_podcast as miniature
import polars as pl
import pytest

from msfser_cli.model.metrics import ccc
from msfser_cli.store.output import read_ledger

RECIPE = Path(__file__).parents[2] / "recipes" / "msp_podcast"
Program = Callable[..., subprocess.CompletedProcess[str]]


class Run(NamedTuple):
    corpus: Path
    out: Path
    process: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def corpus(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk") / "MSP-PODCAST-Publish-1.12"
    miniature.build(folder)
    return folder


@pytest.fixture(scope="module")
def done(program: Program, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe's one command, as its README has it."""
    [command] = re.findall(r"^recipes/msp_podcast/run /data/(\S+) (\S+)$", (RECIPE / "README.md").read_text(), re.MULTILINE)
    assert command[0] == corpus.name
    out = tmp_path_factory.mktemp("work") / command[1]
    return Run(corpus, out, program(RECIPE / "run", corpus, out))


def scores(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.out / "scores.parquet")


def readable() -> list[miniature.Labelled]:
    """The labelled turns that have audio."""
    return [row for row in miniature.labelled() if row.name not in (miniature.NOT_THERE, miniature.EMPTY)]


def test_the_manifest_has_every_labelled_turn_and_test3_and_says_what_is_missing(program: Program, corpus: Path) -> None:
    made = program("python", RECIPE / "manifest.py", corpus, "--transcripts")
    rows = {row["path"]: row for row in csv.DictReader(made.stdout.splitlines())}
    labelled = {row.name: row for row in miniature.labelled()}
    assert set(rows) == labelled.keys() - {miniature.NOT_THERE} | miniature.test3().keys()
    for name, row in rows.items():
        known = labelled.get(name)
        assert (row["start"], row["language"]) == ("0", "en")
        assert row["speaker"] == (known.speaker if known and known.speaker != "Unknown" else "")
        assert row["text"] == (known.turn.text if known and name != miniature.NO_TRANSCRIPT else "")
    assert made.stderr.splitlines() == [
        f"{len(rows)} turns, 4 of them in Test3",
        f"1 have labels and no wav: {miniature.NOT_THERE}",
        f"1 have a wav and no labels, and are left out: {miniature.UNLABELLED}",
        f"5 have no transcript, and are recognised: {miniature.NO_TRANSCRIPT}, {', '.join(list(miniature.test3())[:2])} ...",
    ]


def test_another_folder_is_no_release(program: Program, tmp_path: Path) -> None:
    made = program("python", RECIPE / "manifest.py", tmp_path)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith(f"manifest.py: {tmp_path}/Labels/labels_consensus.csv: cannot be read")


def test_every_readable_turn_is_scored_once_and_the_ledger_has_the_rest(done: Run) -> None:
    assert done.process.returncode == 0, done.process.stderr
    assert sorted(scores(done)["recording_id"]) == sorted([*(row.name for row in readable()), *miniature.test3()])
    ledger = read_ledger(done.out / "scores.parquet")
    assert {name: line["reason"] for name, line in ledger.items() if line["status"] != "done"} == {miniature.EMPTY: "empty"}
    spoken = {row.name: len(row.turn.samples(16_000)) / 16_000 for row in readable()}
    for name in (miniature.STEREO, miniature.TELEPHONE):
        assert ledger[name]["duration"] == pytest.approx(spoken[name], abs=0.01)


def test_the_head_learns_from_train_and_development_alone_and_unknown_speakers_are_those_of_their_podcast(done: Run) -> None:
    train, development = ([row for row in readable() if row.split == split] for split in ("Train", "Development"))
    others = len(readable()) - len(train) - len(development)
    assert (
        f"{len(train)} to train on (5 speakers), {len(development)} to develop on (3 speakers), {others} of other splits left out"
    ) in done.process.stderr


def test_the_results_are_the_ccc_of_each_split(done: Run) -> None:
    labels = pl.DataFrame([(row.name, row.split, *row.means) for row in readable()], orient="row",
                          schema=["recording_id", "split", "a", "v", "d"])
    both = labels.join(scores(done), on="recording_id")
    results = (done.out / "results.txt").read_text()
    for split in ("Development", "Test1", "Test2"):
        of = both.filter(split=split)
        for letter, dimension in zip("avd", ("arousal", "valence", "dominance"), strict=True):
            expected = f"{ccc(of[letter].to_numpy(), of[dimension].to_numpy()):.3f}"
            assert re.search(rf"{split}.*{dimension}.*{re.escape(expected)}.*{of.height}\b", results), (split, dimension, expected)


def test_the_submission_has_every_turn_of_test3_on_the_corpus_s_scale(done: Run) -> None:
    with (done.out / "test3.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    assert sorted(row[0] for row in rows) == sorted(miniature.test3())
    of = {row["recording_id"]: row for row in scores(done).to_dicts()}
    for name, *numbers in rows:
        assert all(1 <= float(number) <= 7 for number in numbers)
        same = [of[name][dimension] for dimension in ("arousal", "valence", "dominance")]
        assert [float(number) for number in numbers] == pytest.approx(same, abs=1e-3)


def test_the_same_command_again_does_nothing_again(program: Program, done: Run) -> None:
    before = {path: path.read_bytes() for path in done.out.rglob("*.parquet")}
    again = program(RECIPE / "run", done.corpus, done.out)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(f"0 done (0 utterances), 0 without speech, 0 failed, {len(read_ledger(done.out / 'scores.parquet'))}") == 5
    assert {path: path.read_bytes() for path in done.out.rglob("*.parquet")} == before

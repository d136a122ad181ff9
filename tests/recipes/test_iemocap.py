"""recipes/iemocap from end to end, on a miniature of the corpus."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest

from kit import miniature_iemocap as miniature
from kit.reports import Program, Run, expected, promised, reported, run_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "iemocap"


@pytest.fixture(scope="module")
def corpus(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk") / "IEMOCAP_full_release"
    miniature.build(folder)
    return folder


@pytest.fixture(scope="module")
def done(program: Program, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe's one command, as its README has it, with the words of the release."""
    return run_recipe(program, RECIPE, corpus, tmp_path_factory.mktemp("work"), "--transcripts")


def readable() -> list[miniature.Labelled]:
    """The labelled turns that have a wav."""
    return [row for row in miniature.labelled() if row.name != miniature.NOT_THERE]


def pooled(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.out / "scores")


def test_the_manifest_has_every_labelled_turn_and_says_what_is_missing(program: Program, corpus: Path, tmp_path: Path) -> None:
    made = program("python", RECIPE / "manifest.py", corpus, tmp_path, "--transcripts")
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert rows == {
        row.path: {
            "path": row.path, "start": "0", "speaker": f"{row.name[:5]}{row.name[-4]}", "language": "en",
            "text": "" if row.name == miniature.ONLY_LAUGHTER else row.turn.text,
        }
        for row in readable()
    }  # fmt: skip
    assert made.stderr.splitlines() == [
        f"{len(rows)} turns",
        f"1 have labels but no wav: {miniature.NOT_THERE}",
        f"1 have no words in their transcript, so msfser recognises them: {miniature.ONLY_LAUGHTER}",
    ]


def test_another_folder_is_no_release(program: Program, tmp_path: Path) -> None:
    made = program("python", RECIPE / "manifest.py", tmp_path, tmp_path)
    assert (made.returncode, list(tmp_path.iterdir())) == (1, [])
    assert made.stderr.startswith(f"manifest.py: {tmp_path}: ")


@pytest.mark.slow
def test_the_run_leaves_what_the_readme_says(done: Run) -> None:
    assert done.process.returncode == 0, done.process.stderr
    assert [name for name in promised(RECIPE / "README.md") if not (done.out / name).exists()] == []


@pytest.mark.slow
def test_every_turn_is_scored_once_by_the_head_that_did_not_hear_its_session(done: Run) -> None:
    assert sorted(pooled(done)["recording_id"]) == sorted(row.path for row in readable())
    for session in range(1, 6):
        settings = json.loads((done.out / f"Session{session}" / "head" / "config.json").read_text())["card"]["settings"]
        heard = [*settings["train_splits"], *settings["dev_splits"]]
        assert sorted(heard) == [f"Session{other}" for other in range(1, 6) if other != session]
        everything = pl.read_parquet(done.out / f"Session{session}" / "scores.parquet")
        own = everything.filter(pl.col("recording_id").str.starts_with(f"Session{session}/"))
        assert pooled(done).join(own, on=["recording_id", "valence", "arousal", "dominance"]).height == own.height > 0
    assert done.process.stderr.count("(6 speakers)") == done.process.stderr.count("in the development set (2 speakers)") == 5


@pytest.mark.slow
def test_the_transcripts_are_taken_as_they_are(done: Run) -> None:
    texts = dict(pooled(done).select("recording_id", "text").iter_rows())
    for row in readable():
        if row.name != miniature.ONLY_LAUGHTER:
            assert texts[row.path] == row.turn.text


@pytest.mark.slow
def test_the_results_tell_improvised_and_scripted_turns_apart(done: Run) -> None:
    style = {True: "improvised", False: "scripted"}
    labels = pl.DataFrame([(row.path, style["_impro" in row.name], *row.means) for row in readable()], orient="row",
                          schema=["recording_id", "style", "valence_label", "arousal_label", "dominance_label"])
    both = labels.join(pooled(done), on="recording_id")
    assert both["dominance_label"].max() == 5.5
    apart = {name: expected(both.filter(style=name)) for name in style.values()}
    assert reported(done.out / "results.txt") == {"": expected(both), **apart}


@pytest.mark.slow
def test_one_session_is_evaluated_on_its_own_as_the_readme_says(program: Program, done: Run) -> None:
    [command] = re.findall(r"`msfser (evaluate iemocap/Session1/[^`]*)`", (RECIPE / "README.md").read_text())
    words = command.replace("iemocap/", f"{done.out}/", 1).replace("/data/IEMOCAP_full_release", str(done.corpus)).split()
    report = json.loads(program("msfser", *words, "--json").stdout)
    assert report["dimensions"]["valence"]["n"] == sum(row.name.startswith("Ses01") for row in readable())


def test_a_fold_that_is_missing_is_named(program: Program, tmp_path: Path) -> None:
    pooling = program("python", RECIPE / "pool.py", tmp_path)
    assert (pooling.returncode, pooling.stdout) == (1, "")
    assert pooling.stderr.startswith(f"pool.py: {tmp_path}/Session1/scores.parquet: cannot be read")

"""recipes/msp_podcast from end to end, on a miniature of the corpus."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import polars as pl
import pytest

from kit import miniature_msp_podcast as miniature
from kit.reports import Program, Run, expected, promised, reported, run_recipe
from msfser_cli.store.ledger import read_ledger

RECIPE = Path(__file__).parents[2] / "recipes" / "msp_podcast"


@pytest.fixture(scope="module")
def corpus(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk") / "MSP-PODCAST-Publish-1.12"
    miniature.build(folder)
    return folder


@pytest.fixture(scope="module")
def done(program: Program, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe's one command, as its README has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSFSER_BEAM_SIZE", "1")  # an option of msfser, as the README says to give them
        return run_recipe(program, RECIPE, corpus, tmp_path_factory.mktemp("work"))


def scores(run: Run, part: str) -> pl.DataFrame:
    return pl.read_parquet(run.out / part / "scores.parquet")


def readable() -> list[miniature.Labelled]:
    """The labelled turns that have audio."""
    return [row for row in miniature.labelled() if row.name not in (miniature.NOT_THERE, miniature.EMPTY)]


def manifest(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_the_manifests_have_every_labelled_turn_and_test3_and_say_what_is_missing(
    program: Program, corpus: Path, tmp_path: Path
) -> None:
    made = program("python", RECIPE / "manifest.py", corpus, tmp_path, "--transcripts")
    plain = {"start": "0", "language": "en"}
    labelled = {
        row.name: plain | {
            "path": row.name, "speaker": "" if row.speaker == "Unknown" else row.speaker,
            "text": "" if row.name == miniature.NO_TRANSCRIPT else row.turn.text,
        }
        for row in miniature.labelled() if row.name != miniature.NOT_THERE
    }  # fmt: skip
    assert manifest(tmp_path / "labelled.csv") == labelled
    hidden = list(miniature.test3())
    assert manifest(tmp_path / "test3.csv") == {name: plain | {"path": name, "speaker": "", "text": ""} for name in hidden}
    assert made.stderr.splitlines() == [
        f"{len(labelled)} turns with labels, {len(hidden)} of Test3",
        f"1 have labels but no wav: {miniature.NOT_THERE}",
        f"1 have a wav but no labels, so they are left out: {miniature.UNLABELLED}",
        f"{1 + len(hidden)} have no transcript, so msfser recognises their words: "
        f"{miniature.NO_TRANSCRIPT}, {', '.join(hidden[:2])} ...",
    ]


def test_a_copy_without_test3_has_no_manifest_of_it(program: Program, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "copy" / "Audios").mkdir(parents=True)
    (tmp_path / "copy" / "Labels").symlink_to(corpus / "Labels")
    (tmp_path / "copy" / "Audios" / miniature.EMPTY).touch()
    made = program("python", RECIPE / "manifest.py", tmp_path / "copy", tmp_path)
    assert (made.returncode, list(manifest(tmp_path / "labelled.csv"))) == (0, [miniature.EMPTY])
    assert not (tmp_path / "test3.csv").exists()


def test_another_folder_is_no_release(program: Program, tmp_path: Path) -> None:
    made = program("python", RECIPE / "manifest.py", tmp_path, tmp_path)
    assert (made.returncode, list(tmp_path.iterdir())) == (1, [])
    assert made.stderr.startswith(f"manifest.py: {tmp_path}/Labels/labels_consensus.csv: cannot be read")


@pytest.mark.slow
def test_the_run_leaves_what_the_readme_says(done: Run) -> None:
    assert done.process.returncode == 0, done.process.stderr
    assert [name for name in promised(RECIPE / "README.md") if not (done.out / name).exists()] == []


@pytest.mark.slow
def test_every_readable_turn_is_scored_once_and_the_ledger_has_the_rest(done: Run) -> None:
    assert sorted(scores(done, "labelled")["recording_id"]) == sorted(row.name for row in readable())
    ledger = read_ledger(done.out / "labelled" / "scores.parquet")
    assert {name: line["reason"] for name, line in ledger.items() if line["status"] != "done"} == {miniature.EMPTY: "empty"}
    spoken = {row.name: len(row.turn.samples(16_000)) / 16_000 for row in readable()}
    for name in (miniature.STEREO, miniature.TELEPHONE):
        assert ledger[name]["duration"] == pytest.approx(spoken[name], abs=0.01)


@pytest.mark.slow
def test_the_head_learns_from_train_and_development_alone_and_unknown_speakers_are_those_of_their_podcast(done: Run) -> None:
    train, development = ([row for row in readable() if row.split == split] for split in ("Train", "Development"))
    others = len(readable()) - len(train) - len(development)
    assert (
        f"{len(train)} in the training set (3 speakers and 2 podcasts), {len(development)} in the development set (3 speakers), "
        f"{others} of other splits left out"
    ) in done.process.stderr


@pytest.mark.slow
def test_the_results_are_the_ccc_of_each_split(done: Run) -> None:
    labels = pl.DataFrame([(row.name, row.split, *row.means) for row in readable()], orient="row",
                          schema=["recording_id", "split", "arousal_label", "valence_label", "dominance_label"])
    both = labels.join(scores(done, "labelled"), on="recording_id")
    splits = ("Development", "Test1", "Test2")
    assert reported(done.out / "results.txt") == {split: expected(both.filter(split=split)) for split in splits}


@pytest.mark.slow
def test_the_submission_has_every_turn_of_test3_on_the_corpus_s_scale(done: Run) -> None:
    with (done.out / "submission.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    assert [row[0] for row in rows] == list(miniature.test3())
    of = {row["recording_id"]: row for row in scores(done, "test3").to_dicts()}
    for name, *numbers in rows:
        assert all(1 <= float(number) <= 7 for number in numbers)
        same = [of[name][dimension] for dimension in ("arousal", "valence", "dominance")]
        assert [float(number) for number in numbers] == pytest.approx(same, abs=1e-5)


@pytest.mark.slow
def test_the_same_command_again_does_nothing_again(
    program: Program, done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content() -> dict[Path, bytes]:
        # but for what msfser remembers of the corpus, which it learns as files grow older
        return {path: path.read_bytes() for path in done.out.rglob("*") if path.is_file() and path.suffix != ".seen"}

    before = content()
    monkeypatch.setenv("MSFSER_BEAM_SIZE", "1")
    again = program(RECIPE / "run", done.corpus, done.out)
    assert again.returncode == 0, again.stderr
    assert len(re.findall(r"recordings: 0 done .* 0 failed, (?!0 unchanged)", again.stderr)) == 2 * 5
    assert content() == before

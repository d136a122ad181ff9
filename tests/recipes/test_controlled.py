"""recipes/controlled: what is held out is held out, what should decide does, and the recipe runs from end to end."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "controlled"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module make_corpus; `sentences` is its sibling, imported as it is when it is run."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import make_corpus
    import sentences

    make_corpus.sentences = sentences  # type: ignore[attr-defined]
    yield make_corpus
    for name in ("make_corpus", "sentences"):
        sys.modules.pop(name, None)


def bare(ssml: str) -> str:
    return re.sub(r"<[^>]+>", "", ssml)


def test_what_is_tested_was_never_trained_on(recipe: ModuleType) -> None:
    for lists in ("GOOD", "BAD", "PAIRS", "DID_GOOD", "DID_BAD", "DEEDS", "STATEMENTS"):
        chosen = getattr(recipe.sentences, lists)
        for one, other in combinations(recipe.SPLITS, 2):
            assert not set(chosen[one]) & set(chosen[other])
        assert all(len(set(chosen[split])) == len(chosen[split]) for split in recipe.SPLITS)
    for one, other in combinations(recipe.SPLITS, 2):
        assert not set(recipe.VOICES[one]) & set(recipe.VOICES[other])
    for split in recipe.SPLITS:
        assert not set(recipe.sentences.GOOD[split]) & set(recipe.sentences.BAD[split])
        assert len(recipe.sentences.GOOD[split]) == len(recipe.sentences.BAD[split])


def test_in_each_part_one_thing_decides(recipe: ModuleType) -> None:
    versions = defaultdict(list)
    for item in recipe.items(1.0):
        versions[item.part, item.split, item.sentence].append(item)
    assert len({item.file for of in versions.values() for item in of}) == sum(map(len, versions.values()))
    good_first = 0
    for (part, split, _), of in versions.items():
        assert len({item.voice for item in of}) == 1
        stressed = [re.findall(r">([^<]+)<", item.ssml) for item in of]
        if part == "emphasis":
            good, bad = of
            assert bare(good.ssml) == bare(bad.ssml)
            assert (good.valence, bad.valence) == (0.85, 0.15)
            assert stressed[0][0] in recipe.sentences.GOOD[split]
            assert stressed[1][0] in recipe.sentences.BAD[split]
            good_first += bare(good.ssml).index(stressed[0][0]) < bare(good.ssml).index(stressed[1][0])
        elif part == "delivery":
            assert len({item.ssml for item in of}) == 1
            assert [item.arousal for item in of] == [round(sum(vars(i.delivery).values()) / 3, 3) for i in of]
            assert {item.valence for item in of} == {None}
        else:
            good, bad = of
            assert bare(good.ssml) != bare(bad.ssml)
            assert stressed[0] == stressed[1]
            assert (good.valence, bad.valence) == (0.85, 0.15)
    sentences = sum(part == "emphasis" for part, *_ in versions)
    assert 0.4 < good_first / sentences < 0.6


def test_an_effort_of_one_half_leaves_the_spectrum_as_it_is(recipe: ModuleType) -> None:
    samples = recipe.np.random.default_rng(0).normal(0, 0.1, 16_001)
    assert recipe.tilted(samples, 16_000, 0.0) == pytest.approx(samples)
    octave = [recipe.np.sin(2 * recipe.np.pi * f * recipe.np.arange(16_000) / 16_000) for f in (400, 1000, 2000)]
    gains = [20 * recipe.np.log10(recipe.tilted(s, 16_000, 3.0).std() / s.std()) for s in octave]
    assert gains == pytest.approx([0, 3, 6], abs=0.01)


@pytest.mark.slow
def test_the_recipe_runs_from_end_to_end(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A few sentences, one seed, few epochs: every recording is scored and every comparison printed."""
    done = program(RECIPE / "run", tmp_path / "out", "0", "--seeds", "1", "--train=--epochs 2 --hidden-dim 8", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+), (\w+): (\d+) labels, 2 clusters, 1 seeds$", done.stdout, re.MULTILINE) == [
        ("emphasis", "valence", "4"), ("delivery", "arousal", "8"), ("words", "valence", "4"),
    ]  # fmt: skip
    assert done.stdout.count("| without les |") == 3
    assert done.stdout.count("CCC against") == 3
    assert (tmp_path / "out" / "results.md").read_text() in done.stdout
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        files = {line["file"] for line in csv.DictReader(file)}
    heard = {str(path.relative_to(tmp_path / "out" / "corpus")) for path in (tmp_path / "out" / "corpus").rglob("*.wav")}
    assert files == heard

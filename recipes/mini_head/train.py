"""Trains the head of the profile `mini` on CREMA-D, EmoDB and EmoBank, and tests it. One command:

    OMP_NUM_THREADS=1 python recipes/mini_head/train.py --data DATA

Needs Debian's espeak-ng and flite. DATA has the folders `crema_d`, `emodb` and `emobank` for training, and `ravdess` for testing
only. Slow results (vectors with their labels, the heads, and the chain on the test speech) are kept in `--cache` and reused.
After a change to the stages or to the recipe, delete it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share the machine, and more threads would slow them down

import argparse
import wave
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import card
import corpora
import features
import numpy as np
import picture
import voices
from chain import Heard, listened
from corpora import Clip
from features import Examples
from fit import fit
from measure import ALL, FACTOR, NONE, ablated, agreement, measured, of_one_mood, of_size, outputs, plain_ccc
from pairing import Share

from msfser_cli.model import weights
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.statistics.intervals import Intervals, calibrate

ROOT = Path(__file__).resolve().parents[2]
COPIES, REVOICED = {"crema_d": 2, "emodb": 8}, {"crema_d": 0.3, "emodb": 0.5}
"""The number of sessions of each speaker, and the share of them in which another speaker says the same."""
SPOKEN = 700
"""The number of training sentences that synthetic voices speak."""
SHARES = {"crema_d": Share(128, 82, 1.0), "emodb": Share(48, 14, 0.3)}
"""EmoDB has few speakers and extreme labels. With the same weight as CREMA-D, other actors of CREMA-D are scored less well."""

LEVEL = 0.9
"""The share of ratings that the prediction intervals should contain."""
Score = Callable[[Examples, str], np.ndarray]
"""Scores examples, [n, 3], with the kind of reference that is named."""
SIZES = (1, 2, 3, 5, 10, 20)
"""The numbers of utterances in the references that are compared."""


def speak_test_sentences(data: Path, folder: Path, count: int) -> list[Clip]:
    """Let voices held out from training speak `count` test sentences of EmoBank, in a fixed order."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = features.sentences(data, "test")
    rng = np.random.default_rng(1)
    clips = []
    for i in rng.permutation(len(lines))[:count]:
        text, labels = lines[i]
        path = folder / f"{i:04d}.wav"
        samples = voices.Voice.draw(voices.HELD_OUT, rng).speak(text)
        with wave.open(str(path), "wb") as wav:
            wav.setparams((1, 2, 16000, 0, "NONE", ""))
            wav.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
        clips.append(Clip(path, f"{i}", tuple(labels), tuple(labels)))
    return clips


def trained(sets: Mapping[str, Mapping[str, Examples]], spoken: Examples, written: Examples, folder: Path) -> dict[str, MsfSer]:
    """Heads by name. sets: the acted corpora that each learns from. folder: keeps the heads."""
    missing = {name: corpora for name, corpora in sets.items() if not (folder / name / weights.CONFIG_NAME).exists()}
    with ProcessPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(fit, [(examples, SHARES[corpus]) for corpus, examples in of.items()], spoken, written)
            for name, of in missing.items()
        }
        for name, job in jobs.items():
            weights.save(folder / name, job.result())
            print(f"trained {name}", flush=True)
    return {name: weights.load(folder / name) for name in sets}


def across_corpora(heads: Mapping[str, MsfSer], left_out: Mapping[str, Examples]) -> Intervals:
    """Prediction intervals from two heads and corpora that they did not learn from, with and without a reference.

    Each corpus counts the same, whatever its number of speakers. The intervals are wider than the errors by `FACTOR`.
    """
    scores, labels, speakers = [], [], []
    cut = {name: of.where((of.form == "speech") & ~np.isnan(of.rated).any(axis=1)) for name, of in left_out.items()}
    most = max(len(np.unique(alone.speaker)) for alone in cut.values())
    for name, alone in cut.items():
        times = round(most / len(np.unique(alone.speaker)))
        for reference in (NONE, ALL):
            of_corpus, _ = outputs(heads[name], alone, reference)
            for copy in range(times):
                scores.append(of_corpus)
                labels.append(alone.rated)
                speakers += [f"{name} {copy} {speaker}" for speaker in alone.speaker]
    intervals = calibrate(np.concatenate(scores), np.concatenate(labels), speakers, LEVEL)
    return replace(
        intervals,
        below=tuple(x and x * FACTOR for x in intervals.below),
        above=tuple(x and x * FACTOR for x in intervals.above),
        utterances=sum(len(alone) for alone in cut.values()),
        speakers=sum(len(np.unique(alone.speaker)) for alone in cut.values()),
    )


def tests_of(data: Path, cache: Path, sentences: int) -> dict[str, tuple[Heard, Heard]]:
    """What msfser hears in the test recordings, cut to their speech, and whole."""
    held_out = [clip for clip in corpora.crema_d(data) if corpora.is_held_out(clip.speaker) and not np.isnan(clip.rated).any()]
    clips = {"CREMA-D": held_out, "RAVDESS": corpora.mapped(data / "ravdess"), "EmoDB": corpora.mapped(data / "emodb")}
    clips["EmoBank"] = speak_test_sentences(data, cache / "sentences", sentences)
    return {
        name: (listened(of, cache / "tests" / name), listened(of, cache / "tests" / f"{name}, whole", "--unit", "file"))
        for name, of in clips.items()
    }


def folded(heads: Mapping[str, MsfSer], examples: Examples, reference: str) -> np.ndarray:
    """Scores of EmoDB's utterances, each by a head that has not heard its speaker."""
    scores = np.zeros_like(examples.labels)
    for pair in pairs(examples.speaker):
        of_pair = np.isin(examples.speaker, pair)
        scores[of_pair] = outputs(heads[f"without {' and '.join(pair)}"], examples, reference)[0][of_pair]
    return scores


def pairs(speakers: np.ndarray) -> list[list[str]]:
    """EmoDB's ten speakers in pairs."""
    return [list(pair) for pair in np.unique(speakers).reshape(-1, 2)]


def main() -> None:
    """Compute the features, train the heads, write the checkpoint, test it, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "mini_head")
    parser.add_argument("--out", type=Path, default=ROOT / "msfser_cli" / "model" / "checkpoints" / "mini")
    parser.add_argument("--test-sentences", type=int, default=500, help="number of EmoBank's 1000 test sentences to speak")
    a = parser.parse_args()

    clips = {"crema_d": corpora.crema_d(a.data), "emodb": corpora.mapped(a.data / "emodb")}
    acted = {name: features.acted(name, of, COPIES[name], REVOICED[name], a.cache) for name, of in clips.items()}
    spoken = features.spoken(a.data, a.cache, SPOKEN)
    written, sentences = (features.written(a.data, a.cache, split) for split in ("train", "test"))
    crema, emodb = acted["crema_d"], acted["emodb"]
    crema = crema.where([not corpora.is_held_out(speaker) for speaker in crema.speaker])
    sets = {
        "mini": {"crema_d": crema, "emodb": emodb},
        "without EmoDB": {"crema_d": crema},
        "without CREMA-D": {"emodb": emodb},
        **{
            f"without {' and '.join(pair)}": {"crema_d": crema, "emodb": emodb.where(~np.isin(emodb.speaker, pair))}
            for pair in pairs(emodb.speaker)
        },
    }
    heads = trained(sets, spoken, written, a.cache / "heads")
    intervals = across_corpora(heads, {"without EmoDB": emodb, "without CREMA-D": crema})
    head = heads["mini"]
    weights.save(a.out, head, intervals=intervals, card={"made by": "recipes/mini_head/train.py", "described in": card.NAME})
    print(f"wrote {a.out}", flush=True)

    heard = tests_of(a.data, a.cache, a.test_sentences)
    results, drawn = card.Results(), {}

    def test(name: str, title: str, score: Score, references: Sequence[str], reach: Intervals | None = None) -> None:
        for how, of_test in zip(("cut", "whole"), heard[name], strict=True):
            for reference in references:
                scores = score(of_test.examples, reference)
                row = measured(of_test, scores, reach)
                results.measured[f"{title}; {how}{', with reference' if reference is ALL else ''}"] = row
                if how == "cut" and len(references) > 1:
                    labels, means, _ = of_test.by_clip(scores)
                    drawn.setdefault(title, {})["with reference" if reference is ALL else "alone"] = labels, means

    def by(judge: MsfSer) -> Score:
        return lambda examples, reference: outputs(judge, examples, reference)[0]

    other = heads["without EmoDB"]
    test("CREMA-D", "CREMA-D, actors held out", by(head), (NONE, ALL), intervals)
    test("RAVDESS", "RAVDESS, never trained on", by(head), (NONE, ALL), intervals)
    test("EmoDB", "EmoDB, never trained on", by(other), (NONE, ALL))
    test("EmoDB", "EmoDB, speakers held out", lambda examples, reference: folded(heads, examples, reference), (NONE, ALL))
    test("EmoBank", "EmoBank's test sentences, read by synthetic voices", by(head), (NONE,), intervals)
    unheard = acted["crema_d"].where([corpora.is_held_out(speaker) for speaker in acted["crema_d"].speaker])
    for name, judge, corpus in (("CREMA-D, actors held out", head, unheard), ("EmoDB, never trained on", other, emodb)):
        altered = corpus.where((corpus.form == "session") & ~np.isnan(corpus.rated).any(axis=1))
        for reference in (NONE, ALL):
            row = agreement(altered.rated, outputs(judge, altered, reference)[0], altered.speaker)
            results.measured[f"{name}; altered{', with reference' if reference is ALL else ''}"] = row
    silence = np.zeros((len(sentences), crema.acoustic.shape[1]), np.float32)
    given = outputs(head, replace(sentences, acoustic=silence))[0]
    results.measured["EmoBank's test sentences, as text"] = agreement(sentences.rated, given, sentences.item)
    for name, judge in (("CREMA-D", head), ("RAVDESS", head), ("EmoDB, never trained on", other), ("EmoBank", head)):
        of_test = heard[name.split(",")[0]][0]
        results.changes[name] = ablated(judge, of_test)
        results.gates[name] = outputs(judge, of_test.examples)[1].mean(axis=0).tolist()
        if name == "EmoBank":
            continue
        e = of_test.examples
        kinds = {"none": NONE, **{f"{n}": of_size(e, n) for n in SIZES}, "all": ALL}
        if name != "CREMA-D":
            kinds["one mood"] = of_one_mood(e)
        for kind, reference in kinds.items():
            results.references.setdefault(kind, {})[name] = plain_ccc(of_test, outputs(judge, e, reference)[0])
    picture.draw(a.out / card.PICTURE, drawn)
    card.write(a.out, results, head, len(np.unique(crema.item)), intervals)
    print((a.out / card.NAME).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

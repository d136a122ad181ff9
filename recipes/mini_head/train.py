"""Trains the head of the profile `mini` on EmoDB and EmoBank, and tests it. One command:

    OMP_NUM_THREADS=1 python recipes/mini_head/train.py --data DATA

Needs Debian's espeak-ng and flite. DATA has the folders `emodb` and `emobank` for training, and `ravdess` for testing only. Slow
results (vectors, and the chain on the test speech) are kept in `--cache` and reused. After a change to the stages, delete it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share the machine, and more threads would slow them down

import argparse
import csv
import json
import subprocess
import sys
import wave
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import card
import features
import numpy as np
import torch
import voices
from card import Measured
from features import Examples
from pairing import Pairing

from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.losses import ccc_loss
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model_store.models import locate
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics import bootstrap
from msfser_cli.statistics.intervals import calibrate
from msfser_cli.statistics.metrics import ccc

ROOT = Path(__file__).resolve().parents[2]
STEPS, RATE, WEIGHT_DECAY, BALANCE, AVERAGED = 1200, 2e-3, 0.1, 0.01, 0.98
SPOKEN = 700
"""The number of training sentences that synthetic voices speak."""

LEVEL = 0.9
"""The share of ratings that the prediction intervals should contain."""
RESAMPLES = 10_000


def fit(acted: Examples, spoken: Examples, written: Examples, *, seed: int = 0, steps: int = STEPS) -> MsfSer:
    """A head trained on the three kinds of examples, in evaluation mode. Its weights are averaged over the end of training."""
    torch.manual_seed(seed)
    model = MsfSer(
        MsfSerConfig(
            acoustic_dim=acted.acoustic.shape[1], text_dim=acted.texts.shape[2], hidden_dim=128, semantic_dim=256, expert_dim=64,
            dropout=0.4,
            acoustic_encoder=f"whisper:{locate('whisper-base').identity}",
            text_encoder=f"transformers-text:{locate('minilm-l6').identity}",
        )
    )  # fmt: skip
    silence = np.zeros((len(written), acted.acoustic.shape[1]), np.float32)
    model.standardise_by(
        torch.from_numpy(np.concatenate([acted.acoustic, spoken.acoustic, silence])),
        torch.from_numpy(np.concatenate([acted.texts, spoken.texts, written.texts])),
        torch.from_numpy(np.concatenate([acted.present, spoken.present, written.present])),
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step, groups in enumerate(Pairing(acted, spoken, written, np.random.default_rng(seed)).batches(steps)):
        inputs = [np.concatenate([getattr(g, name) for g in groups]) for name in ("acoustic", "texts", "present")]
        out = model(*map(torch.from_numpy, inputs))
        loss = BALANCE * out.balance
        scores = out.scores.split([len(g.labels) for g in groups])
        for group, of_group in zip(groups, scores, strict=True):
            loss = loss + ccc_loss(of_group, torch.from_numpy(group.labels.astype(np.float32)))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            for name, tensor in model.state_dict().items():
                average[name].lerp_(tensor, 1 - min(AVERAGED, step / (step + 100)))
    model.load_state_dict(average)
    return model.eval()


def scored(head: MsfSer, examples: Examples) -> np.ndarray:
    """The head's scores of the examples, float32 [n, 3]."""
    with torch.inference_mode():
        scores: np.ndarray = head(*map(torch.from_numpy, (examples.acoustic, examples.texts, examples.present))).scores.numpy()
    return scores


def unseen_speakers(acted: Examples, spoken: Examples, written: Examples) -> np.ndarray:
    """Scores of the acted examples, [n, 3]. Each pair of EmoDB's ten speakers is scored by a head trained without them."""
    folds = [np.isin(acted.speaker, pair) for pair in np.unique(acted.speaker).reshape(-1, 2)]
    scores = np.zeros_like(acted.labels)
    with ProcessPoolExecutor(2) as pool:
        heads = pool.map(fit, [acted.where(~f) for f in folds], [spoken] * 5, [written] * 5)
        for is_held_out, head in zip(folds, heads, strict=True):
            scores[is_held_out] = scored(head, acted.where(is_held_out))
    return scores


def agreement(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> Measured:
    """The CCC of each dimension with its 95 % interval, from resamples of the clusters."""
    names, cluster = np.unique(clusters, return_inverse=True)
    row: Measured = Measured(len(labels))
    for i, d in enumerate(DIMENSIONS):
        sums = bootstrap.cluster_sums(cluster, len(names), labels[:, i], scores[:, i])
        interval = bootstrap.interval(bootstrap.resampled(sums[:, None], RESAMPLES, 0)[0, :, 0], len(names))
        row.ccc[d] = (ccc(labels[:, i], scores[:, i]), interval.low, interval.high)
    return row


def coverage(labels: np.ndarray, scores: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """The share of labels in intervals that were calibrated on the other speakers' scores."""
    inside = np.zeros(labels.shape, bool)
    for speaker in np.unique(speakers):
        own = speakers == speaker
        around = calibrate(scores[~own], labels[~own], speakers[~own].tolist(), LEVEL).around(scores[own], 0.0, 1.0)
        inside[own] = (around[..., 0] <= labels[own]) & (labels[own] <= around[..., 1])
    return dict(zip(DIMENSIONS, inside.mean(axis=0).tolist(), strict=True))


def through_the_chain(corpus: Path, gold: Path, head: Path, work: Path) -> Measured:
    """The results of the whole chain on a folder of recordings and their labels, with msfser's default settings."""
    work.mkdir(parents=True, exist_ok=True)
    source: Path = corpus
    for stage in ("transcribe", "emphasize", "describe", "embed"):
        _msfser(stage, source, "--out", work / f"{stage}.parquet", "--quiet")
        source = work / f"{stage}.parquet"
    _msfser("predict", source, "--head", head, "--out", work / "scores.parquet", "--quiet", "--redo")
    result = json.loads(_msfser("evaluate", work / "scores.parquet", "--gold", gold, "--scale", "0:1", "--json"))
    row = Measured(result["dimensions"]["valence"]["n"])
    for d in DIMENSIONS:
        agreed = result["dimensions"][d]
        row.ccc[d] = (agreed["ccc"], agreed["intervals"]["ccc"]["low"], agreed["intervals"]["ccc"]["high"])
        if d in result["coverage"]:
            row.covered[d] = result["coverage"][d]["share"]
    return row


def speak_test_sentences(data: Path, folder: Path, count: int) -> Path:
    """Let voices held out from training speak `count` test sentences of EmoBank, in a fixed order. Returns the file of labels."""
    gold = folder / "labels.csv"
    if not gold.exists():
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        lines = features.sentences(data, "test")
        rng = np.random.default_rng(1)
        with gold.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", *DIMENSIONS])
            for i in rng.permutation(len(lines))[:count]:
                text, labels = lines[i]
                samples = voices.Voice.draw(voices.HELD_OUT, rng).speak(text)
                with wave.open(str(folder / "audio" / f"{i:04d}.wav"), "wb") as wav:
                    wav.setparams((1, 2, 16000, 0, "NONE", ""))
                    wav.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
                table.writerow([f"{i:04d}.wav", *labels])
    return gold


def main() -> None:
    """Compute the features, train the head, write the checkpoint, test it, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "mini_head")
    parser.add_argument("--out", type=Path, default=ROOT / "msfser_cli" / "model" / "checkpoints" / "mini")
    parser.add_argument("--test-sentences", type=int, default=500, help="number of EmoBank's 1000 test sentences to speak")
    a = parser.parse_args()

    acted = features.acted(a.data, a.cache)
    spoken = features.spoken(a.data, a.cache, SPOKEN)
    written, test = (features.written(a.data, a.cache, split) for split in ("train", "test"))
    scores = unseen_speakers(acted, spoken, written)
    measured = {}
    for form in ("whole", "speech"):
        e, of_form = acted.where(acted.form == form), scores[acted.form == form]
        measured[f"EmoDB, {form}"] = agreement(e.labels, of_form, e.speaker)
        measured[f"EmoDB, {form}"].covered = coverage(e.labels, of_form, e.speaker)
    natural = np.isin(acted.form, ("whole", "speech"))
    intervals = calibrate(scores[natural], acted.labels[natural], acted.speaker[natural].tolist(), LEVEL)

    head = fit(acted, spoken, written)
    weights.save(a.out, head, intervals=intervals, card={"made by": "recipes/mini_head/train.py", "described in": card.NAME})
    print(f"wrote {a.out}", flush=True)
    silence = np.zeros((len(test), acted.acoustic.shape[1]), np.float32)
    measured["EmoBank, given"] = agreement(test.labels, scored(head, replace(test, acoustic=silence)), test.item)
    card.write(a.out, measured, head.config)

    gold = speak_test_sentences(a.data, a.cache / "emobank_test", a.test_sentences)
    tests = {
        "EmoBank, spoken": (a.cache / "emobank_test" / "audio", gold),
        "RAVDESS": (a.data / "ravdess" / "audio", a.data / "ravdess" / "manifest.csv"),
    }
    with ProcessPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(through_the_chain, corpus, labels, a.out, a.cache / name.split(",")[0].lower())
            for name, (corpus, labels) in tests.items()
        }
        measured |= {name: job.result() for name, job in jobs.items()}
    card.write(a.out, measured, head.config)
    print((a.out / card.NAME).read_text(encoding="utf-8"))


def _msfser(*words: object) -> str:
    command = [sys.executable, "-c", "from msfser_cli.cli.app import main; main()", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: some recordings failed; evaluate reports labels without scores
        raise SystemExit(f"msfser {' '.join(map(str, words))} ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()

"""What a GPU gives beside the CPU of the same machine: how far vectors, answers, texts and scores differ, and the time of each.

    python tests/benchmarks/bench_gpu.py [encoders] [memory] [describers] [finetune] [predict] [--speech FOLDER]

    encoders    small encoders of each kind, in float16 and float32, against the CPU's float32; batches against single clips
    memory      a large encoder while the GPU has less and less memory left: the batches that it comes down to, and its vectors
    describers  small audio language models: answers that are the same as on the CPU, and the same alone as in a batch
    finetune    a small encoder that learns its clips by heart: in bfloat16, and in float32 on the CPU
    predict     `msfser predict` of the recordings in FOLDER: once on the GPU and once on the CPU, each a process of its own

All of them without a name. On a machine without a GPU the CPU is compared with itself, which shows that the script works.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `kit`

from kit import spoken_corpus
from kit.audio_language_models import SAVED
from kit.speech_models import KINDS, save_roberta, save_speech_model, voice
from msfser_cli.backends.asking import Question
from msfser_cli.backends.describers.transformers import Listener
from msfser_cli.backends.encoders import transformers_speech, transformers_text
from msfser_cli.settings import FinetuneSettings
from msfser_cli.training.train import train
from msfser_cli.training.training_set import read

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "../shared/data/real_speech/audio"
QUICKSTART = ROOT / "recipes/quickstart/corpus"
PROGRAM = [sys.executable, "-c", "from msfser_cli.cli.app import main; main()"]
SPARE_MIB = (4000, 800, 300, 100, 30, 8)
"""The memory that is left to the large encoder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = {f.__name__: f for f in (encoders, memory, describers, finetune, predict)}
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections))
    parser.add_argument("--speech", type=Path, default=SPEECH if SPEECH.is_dir() else QUICKSTART)
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(sections):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}", flush=True)
    for name in arguments.sections or sections:
        with tempfile.TemporaryDirectory() as folder:
            for line in sections[name](Path(folder), arguments.speech):
                print(f"{name}: {line}", flush=True)


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """As on a machine without a GPU."""
    with patch("torch.cuda.is_available", lambda: False):
        yield


def apart(one: np.ndarray, other: np.ndarray) -> str:
    """The largest difference of a row's vectors, relative to the length of the second."""
    return f"{(np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max():.1e}"


def encoders(folder: Path, _: Path) -> Iterator[str]:
    for kind in (*KINDS, "roberta"):
        items: list[Any] = [voice(seconds, i) for i, seconds in enumerate((2.0, 0.3, 1.1, 7.0, 0.3, 4.0, 3.9))]
        model, load = folder / kind, transformers_speech.load
        if kind == "roberta":
            items, load = ["how are you today", "my friend", "how are you my friend " * 3], transformers_text.load
            save_roberta(model)
        else:
            save_speech_model(model, kind)
        with on_the_cpu():
            cpu = load(model).encode(items)
        for encoder in (load(model), load(model, torch.float32)):
            together = encoder.encode(items)
            alone = np.concatenate([encoder.encode([item]) for item in items])
            where = f"{encoder._inference.device}, {encoder._inference.precision}"
            yield f"{kind} ({where}): to the CPU {apart(together, cpu)}, a batch to single items {apart(together, alone)}"


def memory(folder: Path, _: Path) -> Iterator[str]:
    if not torch.cuda.is_available():
        yield "needs a GPU"
        return
    import transformers as t

    torch.manual_seed(0)
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    t.WavLMModel(t.WavLMConfig(**large, feat_extract_norm="layer", do_stable_layer_norm=True)).save_pretrained(folder)
    t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    clips = [voice(6 + i / 10, i) for i in range(64)]
    encoder = transformers_speech.load(folder)
    whole = encoder.encode(clips)
    began = time.monotonic()
    encoder.encode(clips)
    yield f"{sum(map(len, clips)) / 16_000 / (time.monotonic() - began):.0f} s of audio a second, with all the memory"
    largest = encoder._inference.most
    for spare in SPARE_MIB:
        encoder._inference.most = largest
        torch.cuda.empty_cache()
        taken = taken_but(spare << 20)
        try:
            vectors = encoder.encode(clips)
            yield f"{spare} MiB left: batches of {encoder._inference.most / 16_000:.0f} s, to the first {apart(vectors, whole)}"
        except Exception as error:  # which is what one wants to see
            yield f"{spare} MiB left: {type(error).__name__}: {error}"
        del taken


def taken_but(spare: int) -> list[torch.Tensor]:
    """The GPU's memory but for so many bytes."""
    taken = []
    for size in (1 << 30, 64 << 20, 2 << 20):
        with contextlib.suppress(torch.OutOfMemoryError):
            while torch.cuda.mem_get_info()[0] > spare + size:
                taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    return taken


def describers(folder: Path, _: Path) -> Iterator[str]:
    asked = [Question(voice(seconds, i), "How does it sound?") for i, seconds in enumerate((2.0, 0.3, 1.1, 4.0, 1.1))]
    for kind, save in SAVED.items():
        model = save(folder / kind)
        with on_the_cpu():
            cpu = Listener(model).answer(asked)
        listener = Listener(model)
        together, alone = listener.answer(asked), [listener.answer([question])[0] for question in asked]
        as_cpu, as_alone = (sum(map(str.__eq__, map(str, together), map(str, other))) for other in (cpu, alone))
        yield f"{kind} ({listener._model.dtype}): {as_cpu} of 5 as on the CPU, {as_alone} as alone"


def finetune(folder: Path, _: Path) -> Iterator[str]:
    table, gold = spoken_corpus.write(folder)
    model, embedded = save_speech_model(folder / "wavlm", "wavlm"), folder / "embedded.parquet"
    encoder = ("--acoustic-encoder", "transformers-speech", "--acoustic-model", str(model))
    subprocess.run([*PROGRAM, "embed", str(table), "--out", str(embedded), *encoder], check=True, capture_output=True)
    settings = FinetuneSettings(epochs=50, patience=50, batch_size=10, dropout=0.0, without=("les", "gs", "es"), hidden_dim=16,
                                rate=5e-3, encoder_rate=2e-3, layers="all")
    examples = read(embedded, gold, settings)
    few = dataclasses.replace(examples, train=examples.train[:8], development=examples.train[:8])
    for name, where in (("GPU", contextlib.nullcontext()), ("CPU", on_the_cpu())):
        began = time.monotonic()
        with where:
            best = train(few, settings, folder / name, lambda _: None).best
        yield f"{name}: mean CCC {best.mean:.3f} after {best.epoch} epochs, {time.monotonic() - began:.0f} s"


def predict(folder: Path, speech: Path) -> Iterator[str]:
    tables: dict[str, pl.DataFrame] = {}
    for name, variables in (("GPU", {}), ("GPU again", {}), ("CPU", {"CUDA_VISIBLE_DEVICES": ""})):
        began, out = time.monotonic(), folder / f"{name}.parquet"
        command = [*PROGRAM, "predict", str(speech), "--out", str(out), "--keep-vectors"]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        yield f"{name}: exit {done.returncode}, {time.monotonic() - began:.0f} s: {done.stderr.strip().splitlines()[-1:]}"
        if done.returncode not in (0, 3):
            return
        tables[name] = pl.read_parquet(out)
    for other in ("GPU again", "CPU"):
        yield from _compared(tables["GPU"], tables[other], f"GPU and {other}")


def _compared(one: pl.DataFrame, other: pl.DataFrame, what: str) -> Iterator[str]:
    texts = [t.group_by("recording_id", maintain_order=True).agg("text") for t in (one, other)]
    same = texts[0].join(texts[1], on=["recording_id", "text"])
    yield f"{what}: {len(same)} of {len(texts[0])} recordings have the same texts"
    pairs = one.join(other, on=["utterance_id", "text"], suffix="_other")
    for name in (c for c in one.columns if c.endswith("_vector")):
        both = pairs.drop_nulls([name, f"{name}_other"])
        if len(both):
            yield f"{what}: {name} {apart(np.array(both[name].to_list()), np.array(both[f'{name}_other'].to_list()))}"
    for name in ("valence", "arousal", "dominance"):
        yield f"{what}: {name} {(pairs[name] - pairs[f'{name}_other']).abs().max()} at most, of {len(pairs)} utterances"


if __name__ == "__main__":
    main()

"""Encoders on the GPU: their vectors are those of the CPU, and do not depend on the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kit.gpu import apart, on_the_cpu, spread
from kit.speech_models import KINDS, save_speech_model
from msfser_cli.backends.encoders import transformers_speech, transformers_text, whisper
from msfser_cli.model_store.models import locate

pytestmark = pytest.mark.model

Note = Callable[..., None]

BOUND = {torch.float16: 5e-3, torch.float32: 2e-3}
"""The largest difference of a vector, relative to its length. On a CPU, float16 differs by .001 from float32 in a random
WavLM-Large. On a GPU the convolutions of float32 have as many digits as float16 (TF32)."""

TEXTS = [
    "how are you today", "my friend", "the train was late again, and nobody told us why", "no!",
    "I asked for the green bottle, and you gave me the blue one. " * 8,
]  # fmt: skip
LARGE = ("wavlm-large", "roberta-large", "minilm-l6", "whisper-base")
"""WavLM and RoBERTa are random and as large as the real ones, MiniLM and Whisper are those of `mini`."""


@pytest.mark.parametrize("name", [*LARGE, *(f"small {kind}" for kind in KINDS)])
def test_the_vectors_are_those_of_the_cpu_and_do_not_depend_on_the_batch(
    name: str, clips: list[np.ndarray], note: Note, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    few = [clip[:64_000] for clip in clips[:: len(clips) // 5][:5]]
    items: list[Any] = TEXTS if name in ("roberta-large", "minilm-l6") else few
    load: Callable[..., Any] = transformers_speech.load
    if name == "wavlm-large":
        folder = request.getfixturevalue("wavlm")
    elif name == "roberta-large":
        folder, load = request.getfixturevalue("roberta"), transformers_text.load
    elif name == "minilm-l6":
        folder, load = locate(name).path, transformers_text.load
    elif name == "whisper-base":
        folder, load = locate(name).path, whisper.load
    else:
        folder = save_speech_model(tmp_path, name.removeprefix("small "))
    with on_the_cpu():
        cpu = load(folder).encode(items)
    for precision in (None,) if load is whisper.load else (None, torch.float32):
        encoder = load(folder, *(() if precision is None else (precision,)))
        together = encoder.encode(items)
        alone = np.concatenate([encoder.encode([item]) for item in items])
        computed_in = encoder._inference.precision if hasattr(encoder, "_inference") else torch.float32
        where = f"{name}, {str(computed_in).removeprefix('torch.')}"
        note(f"{where}: vectors differ from the CPU's float32 by", apart(together, cpu), "of their length")
        note(f"{where}: vectors of a batch differ from those of single items by", apart(together, alone), "of their length")
        bound = min(BOUND[computed_in], spread(cpu) / 2)  # different clips differ more than that
        assert apart(together, cpu) < bound
        assert apart(together, alone) < bound
        del encoder

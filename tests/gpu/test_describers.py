"""Audio language models on the GPU: answers do not depend on the batch, and bfloat16 says what the weights say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kit.audio_language_models import SAVED, SENTENCE
from kit.gpu import Card, on_the_cpu
from msfser_cli.backends.asking import Question
from msfser_cli.backends.describers.transformers import Listener

pytestmark = pytest.mark.model

Note = Callable[..., None]


@pytest.mark.parametrize("kind", SAVED)
def test_the_answers_of_a_batch_are_those_to_single_questions(
    kind: str, clips: list[np.ndarray], note: Note, tmp_path: Path
) -> None:
    model = SAVED[kind](tmp_path)
    asked = [Question(clip, "How does it sound?") for clip in clips[:5]]
    with on_the_cpu():
        cpu = Listener(model).answer(asked)
    listener = Listener(model)
    together, alone = listener.answer(asked), [listener.answer([question])[0] for question in asked]
    assert all(isinstance(answer, str) for answer in together)
    as_cpu, as_alone = (sum(one == two for one, two in zip(together, other, strict=True)) for other in (cpu, alone))
    note(f"small {kind}, {str(listener._model.dtype).removeprefix('torch.')}: answers as on the CPU", as_cpu, f"of {len(asked)}")
    note(f"small {kind}: answers in a batch as alone", as_alone, f"of {len(asked)}")
    # Random weights leave many tokens equally likely, so that rounding may decide between two.
    assert as_alone >= len(asked) - 1


def test_a_model_in_bfloat16_says_its_sentence_of_every_clip(
    listener: Path, clips: list[np.ndarray], card: Card, note: Note
) -> None:
    with card.taken() as peak:
        model = Listener(listener)
        model.answer([Question(clips[0], "How does it sound?")])
        began = time.monotonic()
        answers = model.answer([Question(clip, "How does it sound?") for clip in clips])
        seconds = time.monotonic() - began
    note("a small Qwen2-Audio: weights", sum(p.numel() for p in model._model.parameters()) / 1e6, "million")
    note("a small Qwen2-Audio, bfloat16: speed", sum(map(len, clips)) / 16_000 / seconds, "hours of audio an hour")
    note("a small Qwen2-Audio, bfloat16: memory of the GPU", peak.gib, "GiB")
    assert model._model.dtype == (torch.bfloat16 if card.is_real else torch.float32)
    assert set(answers) == {SENTENCE}

"""A small CTC model that hears pips, and the audio that it understands."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

RATE = 16_000
LETTERS = string.ascii_lowercase + "'"
TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS)
PIP, STEP = 0.04, 0.12
"""Seconds that a letter's pip sounds, and from one letter's start to the next's."""

Spell = Callable[[list[tuple[str, float]], float], np.ndarray]


@pytest.fixture(scope="session")
def spell() -> Spell:
    """Writes audio of `duration` seconds in which each letter of each (word, start) is a pip of the letter's own frequency."""
    return _spell


@pytest.fixture(scope="session")
def ctc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec 2.0 CTC model with random layers, whose output layer is fitted so that it reads what `spell` writes."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor

    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(TOKENS), hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        conv_dim=(96,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, pad_token_id=0,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config).eval()
    states, logits = zip(*(_heard(model, seed) for seed in range(6)), strict=True)
    x = torch.cat(states)
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    weights = torch.linalg.solve(x.T @ x + 1e-3 * torch.eye(x.shape[1], dtype=x.dtype), x.T @ torch.cat(logits))
    with torch.no_grad():
        model.lm_head.weight.copy_(weights[:-1].T)
        model.lm_head.bias.copy_(weights[-1])
    model.save_pretrained(folder)
    return folder


def _spell(words: list[tuple[str, float]], duration: float) -> np.ndarray:
    audio = 0.001 * np.random.default_rng(0).standard_normal(round(duration * RATE))
    time = np.arange(round(PIP * RATE)) / RATE
    for word, start in words:
        for i, letter in enumerate(word):
            first = round((start + i * STEP) * RATE)
            audio[first : first + len(time)] += 0.3 * np.sin(2 * np.pi * 300 * 2 ** (LETTERS.index(letter) / 6) * time)
    return audio.astype(np.float32)


def _heard(model: torch.nn.Module, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's last states for random letters, and the logits wanted for them: the letter where it sounds, else the blank."""
    import torch

    random = np.random.default_rng(seed)
    letters = random.permutation(list(LETTERS * 2))
    words = [(str(letter), 0.3 + STEP * i) for i, letter in enumerate(letters)]
    audio = torch.from_numpy(_spell(words, 0.6 + STEP * len(words)))[None]
    with torch.inference_mode():
        states = model.wav2vec2(audio).last_hidden_state[0]
    centres = (np.arange(len(states)) * 320 + 200) / RATE
    logits = torch.zeros(len(states), len(TOKENS), dtype=torch.double)
    logits[:, TOKENS.index("<pad>")] = 12
    logits[:, TOKENS.index("|")] = 9  # any silence may lie between two words
    for letter, start in words:
        sounding = torch.from_numpy((centres >= start) & (centres < start + PIP))
        logits[sounding, TOKENS.index(letter)] = 12
        logits[sounding, TOKENS.index("<pad>")] = 10.5  # a letter may last
        logits[sounding, TOKENS.index("|")] = 0
    return states, logits

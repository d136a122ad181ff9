"""Small speech encoders with random weights, of the classes that real ones are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz with a moving formant: enough structure for an encoder to tell clips apart."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = np.sign(np.sin(2 * np.pi * (110 + 30 * random.random()) * time)) * np.sin(2 * np.pi * 3 * time + random.random())
    return (0.1 * buzz + 0.01 * random.standard_normal(len(time))).astype(np.float32)


def save_speech_model(folder: Path, kind: str, *, do_normalize: bool = True) -> Path:
    """A folder as the hub has it: wavlm and hubert with layer norm in the front end, wav2vec2-group-norm."""
    import torch
    from transformers import (
        HubertConfig,
        HubertModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
        WavLMConfig,
        WavLMModel,
    )

    torch.manual_seed(0)
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    model: Any = {
        "wavlm": lambda: WavLMModel(WavLMConfig(**size, feat_extract_norm="layer", do_stable_layer_norm=True)),
        "hubert": lambda: HubertModel(HubertConfig(**size, feat_extract_norm="layer", do_stable_layer_norm=True)),
        "wav2vec2-group-norm": lambda: Wav2Vec2Model(Wav2Vec2Config(**size, feat_extract_norm="group")),
    }[kind]()
    model.save_pretrained(folder)
    masked = kind != "wav2vec2-group-norm"
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=masked).save_pretrained(folder)
    return folder

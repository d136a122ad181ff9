"""Encoders and aligners with random weights, of the classes that real ones are of: small, unless a size is given."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000
KINDS = ("wavlm", "hubert", "wav2vec2-layer-norm", "wav2vec2-group-norm", "unispeech-sat", "data2vec", "whisper")
"""wavlm, hubert and unispeech-sat have layer norm in the front end."""
WHISPER_SECONDS = 5
"""What the small Whisper hears at once; real ones hear 30 s."""


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz with a moving formant: enough structure for an encoder to tell clips apart."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = np.sign(np.sin(2 * np.pi * (110 + 30 * random.random()) * time)) * np.sin(2 * np.pi * 3 * time + random.random())
    return (0.1 * buzz + 0.01 * random.standard_normal(len(time))).astype(np.float32)


def save_speech_model(folder: Path, kind: str, *, do_normalize: bool = True, **larger: Any) -> Path:
    """A folder as the hub has it, of one of `KINDS`. larger: fields of the config with other values than the small model's."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    if kind == "whisper":
        size = {
            "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48, "num_mel_bins": 20,
            "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 48, "vocab_size": 50,
            "max_source_positions": 50 * WHISPER_SECONDS,
        }  # fmt: skip
        special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        t.WhisperModel(t.WhisperConfig(**size, **special, **larger)).save_pretrained(folder)
        t.WhisperFeatureExtractor(feature_size=20, chunk_length=WHISPER_SECONDS).save_pretrained(folder)
        return folder
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, **larger,
    }  # fmt: skip
    layer = {**size, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    model: Any = {
        "wavlm": lambda: t.WavLMModel(t.WavLMConfig(**layer)),
        "hubert": lambda: t.HubertModel(t.HubertConfig(**layer)),
        "wav2vec2-layer-norm": lambda: t.Wav2Vec2Model(t.Wav2Vec2Config(**layer)),
        "wav2vec2-group-norm": lambda: t.Wav2Vec2Model(t.Wav2Vec2Config(**size, feat_extract_norm="group")),
        "unispeech-sat": lambda: t.UniSpeechSatModel(t.UniSpeechSatConfig(**layer)),
        "data2vec": lambda: t.Data2VecAudioModel(
            t.Data2VecAudioConfig(**{**size, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=5)
        ),
    }[kind]()
    model.save_pretrained(folder)
    masked = kind != "wav2vec2-group-norm"
    t.Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=masked).save_pretrained(folder)
    return folder


def save_roberta(folder: Path, *, longest: int = 30, **larger: Any) -> Path:
    """A RoBERTa that takes no more than `longest` tokens. larger: as for `save_speech_model`."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    torch.manual_seed(0)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(["how are you today my friend"] * 20, vocab_size=300, special_tokens=special)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=longest)
    tokenizer.save_pretrained(folder)
    size = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": longest + 2, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    RobertaModel(RobertaConfig(**{**size, **larger}), add_pooling_layer=False).save_pretrained(folder)
    return folder


def save_ctc(folder: Path) -> Path:
    """A wav2vec 2.0 CTC model of the letters a to z."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor

    torch.manual_seed(0)
    tokens = ("<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_uppercase, "'")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))).save_pretrained(folder)
    config = Wav2Vec2Config(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder

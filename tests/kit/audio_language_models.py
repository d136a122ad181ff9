"""Small audio language models with random weights, of the classes and with the files that real ones have."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SENTENCE = "The speaker sounds calm and steady, with a slow pace; little energy hints at sadness."

# As the folders of Qwen2-Audio and Qwen2.5-Omni have them, without what is for pictures and for several turns.
_TEMPLATE = (
    "{% set audio_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if 'audio' in content or 'audio_url' in content or content['type'] == 'audio' %}"
    "AUDIO{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2_AUDIO_TEMPLATE = _TEMPLATE.replace("AUDIO", (
    "{% set audio_count.value = audio_count.value + 1 %}Audio {{ audio_count.value }}: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
))  # fmt: skip
OMNI_TEMPLATE = _TEMPLATE.replace("AUDIO", "<|audio_bos|><|AUDIO|><|audio_eos|>")
_VOXTRAL_MARKS = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> "
    "[IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT] [ARGS] [CALL_ID] [THINK] "
    "[/THINK] [AUDIO] [BEGIN_AUDIO] [TRANSCRIBE]"
)
_ENCODER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 16}
_TEXT = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
}  # fmt: skip


def save_qwen2_audio(folder: Path, **text: Any) -> Path:
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    tokenizer = _qwen_tokenizer()
    config = Qwen2AudioConfig(
        audio_config={**_ENCODER, "encoder_layerdrop": 0.0},
        text_config={"model_type": "qwen2", **_TEXT, "vocab_size": len(tokenizer), **text},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    model = _lively(Qwen2AudioForConditionalGeneration, config)
    # As the published folder has it: what is not to be taken over.
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.5, top_k=20, repetition_penalty=1.1,
                                   eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    model.save_pretrained(folder)
    Qwen2AudioProcessor(_whisper_features(), tokenizer, chat_template=QWEN2_AUDIO_TEMPLATE).save_pretrained(folder)
    return folder


def save_qwen_omni(folder: Path, *, whole: bool = True, **text: Any) -> Path:
    """whole: with the part that speaks, as it is published."""
    from transformers import (
        Qwen2_5OmniConfig,
        Qwen2_5OmniForConditionalGeneration,
        Qwen2_5OmniProcessor,
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _qwen_tokenizer()
    token = tokenizer.convert_tokens_to_ids
    thinker = {
        "audio_config": {**_ENCODER, "output_dim": 64, "n_window": 20},
        "vision_config": {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "out_hidden_size": 64},
        "text_config": {**_TEXT, "vocab_size": len(tokenizer),
                        "rope_scaling": {"type": "default", "mrope_section": [4, 6, 6], "rope_type": "default"}, **text},
        "audio_token_index": token("<|AUDIO|>"), "image_token_index": token("<|IMAGE|>"), "video_token_index": token("<|VIDEO|>"),
        "audio_start_token_id": token("<|audio_bos|>"), "audio_end_token_id": token("<|audio_eos|>"),
        "vision_start_token_id": token("<|vision_bos|>"),
    }  # fmt: skip
    if whole:
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
        waves = {
            "dit_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "ff_mult": 1,
                           "emb_dim": 8, "num_embeds": 20, "mel_dim": 8, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [8] * 5,
                           "enc_attention_channels": 4, "enc_se_channels": 4, "enc_res2net_scale": 2},
            "bigvgan_config": {"mel_dim": 8, "upsample_initial_channel": 64},
        }  # fmt: skip
        talker = {**small, "vocab_size": 40, "embedding_size": 64, "intermediate_size": 16,
                  "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2], "rope_type": "default"}}  # fmt: skip
        config = Qwen2_5OmniConfig(thinker_config=thinker, talker_config=talker, token2wav_config=waves)
        model = _lively(Qwen2_5OmniForConditionalGeneration, config)
    else:
        model = _lively(Qwen2_5OmniThinkerForConditionalGeneration, Qwen2_5OmniThinkerConfig(**thinker))
    model.save_pretrained(folder)
    Qwen2_5OmniProcessor(
        Qwen2VLImageProcessor(), Qwen2VLVideoProcessor(), _whisper_features(), tokenizer, chat_template=OMNI_TEMPLATE
    ).save_pretrained(folder)
    both = Qwen2VLImageProcessor().to_dict() | _whisper_features().to_dict()  # in one file, of which each saves its own part
    (folder / "preprocessor_config.json").write_text(json.dumps(both))
    return folder


def save_voxtral(folder: Path, **text: Any) -> Path:
    """Needs no mistral-common, as the vocabulary is a file of JSON."""
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration

    vocabulary = _words_and_bytes()
    special = _VOXTRAL_MARKS.split()
    ids = {"vocab_size": len(special) + len(vocabulary), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 11}
    config = VoxtralConfig(
        audio_config={"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "num_mel_bins": 16},
        text_config={"model_type": "llama", **_TEXT, "head_dim": 32, **ids, **text},
        audio_token_id=24,
    )  # fmt: skip
    model = _lively(VoxtralForConditionalGeneration, config)
    model.generation_config.update(eos_token_id=2, pad_token_id=11, bos_token_id=1)
    model.save_pretrained(folder)
    _whisper_features().save_pretrained(folder)
    (folder / "tekken.json").write_text(json.dumps({
        "config": {"pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", "num_vocab_tokens": len(vocabulary),
                   "default_vocab_size": ids["vocab_size"], "default_num_special_tokens": len(special), "version": "v7"},
        "special_tokens": [{"rank": i, "token_str": mark, "is_control": True} for i, mark in enumerate(special)],
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(word).decode(), "token_str": word.decode(errors="replace")}
                  for i, word in enumerate(vocabulary)],
        "audio": {"sampling_rate": 16_000, "frame_rate": 12.5, "chunk_length_s": 30.0,
                  "audio_encoding_config": {"num_mel_bins": 16, "hop_length": 160, "window_size": 400}},
    }))  # fmt: skip
    return folder


SAVED: dict[str, Callable[[Path], Path]] = {
    "qwen2-audio": save_qwen2_audio,
    "qwen2.5-omni": save_qwen_omni,
    "qwen2.5-omni-thinker": lambda folder: save_qwen_omni(folder, whole=False),
    "voxtral": save_voxtral,
}


def make_it_say(folder: Path, *, without_end: bool = False) -> Path:
    """Change the weights of a Qwen2-Audio in `folder` so that it answers anything with `SENTENCE`, once or without end.

    Its layers add nothing, each token of the sentence has a direction of its own, and the head turns it into the next one.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2AudioForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder)
    tokens = [*tokenizer("\n").input_ids, *tokenizer(SENTENCE).input_ids]
    assert len(set(tokens)) == len(tokens) <= 64
    tokens.append(tokens[1] if without_end else tokenizer.eos_token_id)
    language = model.language_model
    with torch.no_grad():
        for layer in language.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        language.model.embed_tokens.weight.zero_()
        language.model.norm.weight.fill_(1)
        language.lm_head.weight.zero_()
        for i, token in enumerate(tokens[:-1]):
            language.model.embed_tokens.weight[token, i] = 1
            language.lm_head.weight[tokens[i + 1], i] = 1
    model.save_pretrained(folder)
    return folder


def in_bfloat16(folder: Path) -> Path:
    """Change the weights in `folder` to bfloat16, which is how such models are published."""
    import torch
    from safetensors.torch import load_file, save_file

    config = folder / "config.json"
    config.write_text(config.read_text().replace('"float32"', '"bfloat16"'))
    for path in folder.glob("*.safetensors"):
        save_file({name: weight.to(torch.bfloat16) for name, weight in load_file(path).items()}, path, {"format": "pt"})
    return folder


def _lively(kind: Any, config: Any) -> Any:
    """A model of random weights that are large enough for what it hears to matter for what it says."""
    import torch

    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed_positions" not in name:
                weight.normal_(0, 2 * weight[0].numel() ** -0.5)
    return model


def _whisper_features() -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=16, return_attention_mask=True)


def _words_and_bytes() -> list[bytes]:
    """A vocabulary of all bytes, and of the words of `SENTENCE` with all their beginnings, so that merges lead to them."""
    beginnings = {word.encode()[:end] for word in _spaced(SENTENCE) for end in range(2, len(word) + 1)}
    return [bytes([i]) for i in range(256)] + sorted(beginnings, key=lambda word: (len(word), word))


def _spaced(sentence: str) -> list[str]:
    first, *others = sentence.split()
    return [first, *(f" {word}" for word in others)]


def _qwen_tokenizer() -> Any:
    """A byte-level vocabulary in which a word of `SENTENCE` is a token, with the marks of Qwen2-Audio and Qwen2.5-Omni."""
    from tokenizers import ByteLevelBPETokenizer, Tokenizer
    from transformers import Qwen2TokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([SENTENCE, "user\n", "assistant\n"] * 5, vocab_size=600, min_frequency=1)
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe.to_str()),
        eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None,
        extra_special_tokens={
            "image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
        },
    )  # fmt: skip
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return tokenizer

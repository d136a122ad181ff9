"""An audio language model in this process, with transformers: Qwen2-Audio, Qwen2.5-Omni or Voxtral.

Decoding is greedy, so the same utterance always gets the same answer. Each question is prepared alone, and msfser pads the batch
itself, on the left and with a mask, because processors of different folders pad in different ways. Of the folder's generation
settings only the end tokens are used. Others could do harm: a repetition penalty, for example, would count the padding.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import asking
from msfser_cli.backends.describers import pcm, prosody, wav
from msfser_cli.backends.inference import Batches
from msfser_cli.backends.loading import SAFELY, loading, whole_model
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.model_store.models import ModelFolder, locate
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from msfser_cli.backends.asking import Question
    from msfser_cli.settings import DescribeSettings

REQUIRES = ("torch", "transformers")

BATCH = 8
BATCH_SECONDS = 60.0
"""The most questions of a batch, and the most seconds of their audio, padding included. They bound memory. Utterances with more
seconds are not sent to the model.
"""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Shorter clips are padded with silence to this many samples, because they may give no token."""

Inputs = dict[str, "Tensor"]


@dataclass(frozen=True)
class Kind:
    """A family of models: the names of its classes in transformers, and the function that prepares a question.

    fixed_window: the model takes at most its feature extractor's window, which would cut a longer clip silently.
    """

    model: str
    processor: str
    inputs: Callable[[Any, np.ndarray, str], Any]
    fixed_window: bool = True


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model named in `settings`. UsageError if they name none, ModelError if it is not on this machine."""
    if not settings.target:
        raise UsageError(
            "the describer transformers needs a model; pass transformers:MODEL with a folder, owner/name or a registered name"
        )
    model = locate(settings.target)
    return ModelFolder(model.path, f"{model.identity}, {asking.PROMPT}")


def load(settings: DescribeSettings, model: ModelFolder) -> asking.AskingDescriber:
    """The describer with `model`. ModelError, with the folder's name, if transformers cannot load it or if it takes no audio.

    ResourceError if memory is too small for it.
    """
    with loading(model.path, "cannot load this audio language model"):
        return asking.AskingDescriber(Listener(model.path), prosody.load(settings))


class Listener:
    """An audio language model with its processor, in evaluation mode. float32 on a CPU; the folder's precision on a GPU."""

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers
        from transformers.utils import logging

        logging.set_verbosity_error()  # or it warns of Qwen2.5-Omni's unused weights, which make speech
        config, _ = transformers.PretrainedConfig.get_config_dict(folder, **SAFELY)
        if (model_type := config.get("model_type")) not in KINDS:
            raise ModelError(
                f"{folder}: not a supported audio language model, its model_type is {model_type!r:.60}; "
                f"use one of {', '.join(KINDS)}"
            )
        self._kind = KINDS[model_type]
        self._processor = _processor(self._kind, folder)
        if (rate := self._processor.feature_extractor.sampling_rate) != SAMPLE_RATE_HZ:
            raise ModelError(f"{folder}: needs audio at {rate} Hz, but msfser has {SAMPLE_RATE_HZ} Hz; use another model")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if self._device == "cuda" else torch.float32
        model = whole_model(getattr(transformers, self._kind.model), folder, use_safetensors=True, torch_dtype=dtype)
        self._ends = _ends(model, self._processor.tokenizer)
        model.generation_config = transformers.GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=asking.MOST_TOKENS, eos_token_id=self._ends, pad_token_id=self._ends[0]
        )
        self._model: Any = model.eval().to(self._device)
        self._positions = int(model.config.get_text_config().max_position_embeddings)
        self._longest = round(BATCH_SECONDS * SAMPLE_RATE_HZ)
        if self._kind.fixed_window:
            self._longest = min(self._longest, int(self._processor.feature_extractor.n_samples))
        # On a CPU each question is answered alone, so that its answer does not depend on others.
        self._batches = Batches(BATCH_SECONDS * SAMPLE_RATE_HZ if self._device == "cuda" else 0.0, BATCH)
        self._inputs(np.zeros(SHORTEST, np.float32), "")  # a folder that cannot prepare a question fails before the run begins

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """The model's answer to each question; None for an utterance that is too long. MemoryError if one does not fit memory."""
        answers: list[str | None] = [None] * len(questions)
        heard = [i for i, question in enumerate(questions) if len(question.samples) <= self._longest]

        def answer(batch: list[int]) -> list[str | None]:
            return self._answer_batch([questions[heard[j]] for j in batch])

        for batch, texts in self._batches.over([len(questions[i].samples) for i in heard], answer):
            for j, text in zip(batch, texts, strict=True):
                answers[heard[j]] = text
        return answers

    def _answer_batch(self, questions: Sequence[Question]) -> list[str | None]:
        """The answers to one batch; None where the prompt is too long."""
        inputs = [self._inputs(question.samples[:], question.prompt) for question in questions]
        fits = [one["input_ids"].shape[1] + asking.MOST_TOKENS <= self._positions for one in inputs]
        texts = iter(self._generate([one for one, fit in zip(inputs, fits, strict=True) if fit]) if any(fits) else [])
        return [next(texts) if fit else None for fit in fits]

    def _inputs(self, samples: np.ndarray, prompt: str) -> Inputs:
        """The model's inputs for one question: tensors [1, ...]; `input_features` is [windows, mels, frames]."""
        clip = np.pad(samples, (0, max(0, SHORTEST - len(samples)))).astype(np.float32, copy=False)
        inputs = dict(self._kind.inputs(self._processor, clip, prompt))
        if "input_features" not in inputs:
            raise ModelError("this version of transformers ignores audio for this model; run: pip install -U 'transformers<5'")
        return inputs

    def _generate(self, inputs: Sequence[Inputs]) -> list[str]:
        """The model's answers to one batch of prepared questions."""
        import torch

        width = max(one["input_ids"].shape[1] for one in inputs)
        padding = {"input_ids": self._ends[0], "attention_mask": 0}
        batch = {}
        for name in inputs[0]:
            tensors = [one[name] for one in inputs]
            if name in padding:
                tensors = [torch.nn.functional.pad(t, (width - t.shape[1], 0), value=padding[name]) for t in tensors]
            batch[name] = torch.cat(tensors).to(self._device)
        batch["input_features"] = batch["input_features"].to(self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(**batch)[:, width:].tolist()
        return [self._text(row) for row in tokens]

    def _text(self, tokens: list[int]) -> str:
        end = next((i for i, token in enumerate(tokens) if token in self._ends), len(tokens))
        return str(self._processor.tokenizer.decode(tokens[:end], skip_special_tokens=True))


def _processor(kind: Kind, folder: Path) -> Any:
    import transformers
    from transformers.utils import is_mistral_common_available, is_soundfile_available

    if not hasattr(transformers, kind.model):
        raise ModelError(
            f"{folder}: transformers {transformers.__version__} does not have {kind.model}; run: pip install -U 'transformers<5'"
        )
    if kind.inputs is _by_mistral and not (is_mistral_common_available() and is_soundfile_available()):
        raise ModelError(f"{folder}: Voxtral needs the package mistral-common; run: pip install 'mistral-common[audio]'")
    processor = getattr(transformers, kind.processor).from_pretrained(folder, **SAFELY)
    if kind.inputs is _by_template:
        template = processor.chat_template or processor.tokenizer.chat_template
        if not isinstance(template, str):
            raise ModelError(f"{folder}: the model has no chat template; add its chat_template.jinja, or get the model again")
        processor.chat_template = template
        if _chat(processor, "").count(processor.audio_token) != 1:
            raise ModelError(f"{folder}: its chat template has no place for audio; use a model that takes audio")
    return processor


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The ids of the tokens that end an answer, in ascending order. ModelError if the model names none."""
    ends: set[int] = set()
    for source in (tokenizer, model.generation_config, model.config, model.config.get_text_config()):
        tokens = getattr(source, "eos_token_id", None)
        ends.update(tokens if isinstance(tokens, list) else [] if tokens is None else [tokens])
    if not ends:
        raise ModelError("the model has no token that ends an answer (eos_token_id); get the model again")
    return sorted(ends)


def _chat(processor: Any, prompt: str) -> str:
    """The conversation in the model's own format. A mark such as <|im_end|> in the prompt is kept from taking effect."""
    content = [{"type": "audio", "audio": ""}, {"type": "text", "text": prompt.replace("<", "< ")}]
    chat = [{"role": "user", "content": content}]
    template = processor.chat_template
    return str(processor.tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True))


def _by_template(processor: Any, clip: np.ndarray, prompt: str) -> Any:
    return processor(text=[_chat(processor, prompt)], audio=[clip], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")


def _by_mistral(processor: Any, clip: np.ndarray, prompt: str) -> Any:
    """mistral-common writes the conversation and takes the audio as a WAV file. Marks in the prompt have no effect in it."""
    audio = {"type": "audio", "base64": base64.b64encode(wav(pcm(clip))).decode()}
    return processor.apply_chat_template([{"role": "user", "content": [audio, {"type": "text", "text": prompt}]}])


_OMNI = Kind("Qwen2_5OmniThinkerForConditionalGeneration", "Qwen2_5OmniProcessor", _by_template)
KINDS = {
    "qwen2_audio": Kind("Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor", _by_template),
    "qwen2_5_omni": _OMNI,
    "qwen2_5_omni_thinker": _OMNI,
    "voxtral": Kind("VoxtralForConditionalGeneration", "VoxtralProcessor", _by_mistral, fixed_window=False),
}
"""The families, by the `model_type` in a folder's config.json. Of Qwen2.5-Omni, msfser loads only the part that writes text."""

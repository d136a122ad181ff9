"""An audio language model that runs here, by transformers: Qwen2-Audio, Qwen2.5-Omni or Voxtral.

It decodes greedily, so that it says the same each time. Each question is made ready alone and the batch is padded here, on the
left and masked: what a processor pads with, and on which side, differs from folder to folder. Nothing of the folder's own way to
decode is taken over but the tokens that end an answer; a penalty on repetition, for one, would count the padding.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import asking
from msfser_cli.backends.describers import pcm, prosody, wav
from msfser_cli.backends.encoders import SAFELY, whole_model
from msfser_cli.errors import ModelError, MsfserError, UsageError, is_shortage
from msfser_cli.profiles.models import ModelFolder, locate
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from msfser_cli.backends.asking import Question
    from msfser_cli.settings import DescribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("torch", "transformers")

BATCH = 8
BATCH_SECONDS = 60.0
"""Questions in a batch, and their audio: bounds memory. A longer utterance is not asked about."""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Clips are padded with silence to at least this many samples: a shorter one may leave no token."""

Inputs = dict[str, "Tensor"]


@dataclass(frozen=True)
class Kind:
    """A family of models: the names of transformers' classes for it, and how a question becomes its inputs.

    fixed_window: it hears no more than its feature extractor's window, and the rest would be cut off without a word.
    """

    model: str
    processor: str
    inputs: Callable[[Any, np.ndarray, str], Any]
    fixed_window: bool = True


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model that is asked. UsageError where none is named, ModelError where it is not here."""
    if not settings.target:
        raise UsageError("the describer transformers asks a model: transformers:MODEL, a folder, owner/name or a registered name")
    found = locate(settings.target)
    return ModelFolder(found.path, f"{found.identity}, {asking.PROMPT}")


def load(settings: DescribeSettings, model: ModelFolder) -> asking.Asked:
    """The describer on `model`. ModelError, naming the folder, for one that transformers cannot load or that hears nothing."""
    try:
        return asking.Asked(Listener(model.path), prosody.load(settings))
    except (MsfserError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{model.path}: cannot load this audio language model ({type(error).__name__}: {error})") from error


class Listener:
    """An audio language model with its processor, in evaluation mode: float32 on a CPU, as the folder says on a GPU."""

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers
        from transformers.utils import logging

        logging.set_verbosity_error()  # weights that are not for text, of Qwen2.5-Omni, are no news
        config, _ = transformers.PretrainedConfig.get_config_dict(folder, **SAFELY)
        if (named := config.get("model_type")) not in KINDS:
            raise ModelError(f"{folder}: {named!r:.60} is no audio language model that is known here; {', '.join(KINDS)} are")
        self._kind = KINDS[named]
        self._processor = _processor(self._kind, folder)
        if (rate := self._processor.feature_extractor.sampling_rate) != SAMPLE_RATE_HZ:
            raise ModelError(f"{folder}: expects {rate} Hz, msfser gives {SAMPLE_RATE_HZ} Hz")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if self._device == "cuda" else torch.float32
        model = whole_model(getattr(transformers, self._kind.model), folder, use_safetensors=True, torch_dtype=dtype)
        self._ends = _ends(model, self._processor.tokenizer)
        model.generation_config = transformers.GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=asking.MOST_TOKENS, eos_token_id=self._ends, pad_token_id=self._ends[0]
        )
        try:
            self._model: Any = model.eval().to(self._device)
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"the GPU's memory is too small for {folder}") from error
        self._positions = int(model.config.get_text_config().max_position_embeddings)
        self._longest = round(BATCH_SECONDS * SAMPLE_RATE_HZ)
        if self._kind.fixed_window:
            self._longest = min(self._longest, int(self._processor.feature_extractor.n_samples))
        self._inputs(np.zeros(SHORTEST, np.float32), "")  # a folder that cannot be asked says so before the run

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """What the model writes for each question; None for one that is too long for it."""
        answers: list[str | None] = [None] * len(questions)
        for batch in self._batches([question.samples for question in questions]):
            for i, answer in zip(batch, self._answered([questions[i] for i in batch]), strict=True):
                answers[i] = answer
        return answers

    def _batches(self, clips: Sequence[Samples]) -> list[list[int]]:
        """The indices of the clips that are not too long, alike in length."""
        batches: list[list[int]] = []
        for i in sorted((i for i, clip in enumerate(clips) if len(clip) <= self._longest), key=lambda i: len(clips[i])):
            if batches and len(batches[-1]) < BATCH and (len(batches[-1]) + 1) * len(clips[i]) <= BATCH_SECONDS * SAMPLE_RATE_HZ:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def _answered(self, questions: Sequence[Question]) -> list[str | None]:
        """The answers to one batch, in two halves where a GPU's memory is too small for it. MemoryError where that is no help."""
        import torch

        inputs = [self._inputs(question.samples[:], question.prompt) for question in questions]
        fits = [i for i, one in enumerate(inputs) if one["input_ids"].shape[1] + asking.MOST_TOKENS <= self._positions]
        answers: list[str | None] = [None] * len(questions)
        try:
            written = self._written([inputs[i] for i in fits]) if fits else []
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            written = None
        if written is not None:
            for i, text in zip(fits, written, strict=True):
                answers[i] = text
            return answers
        # Here and not where it is caught: there, the traceback would keep the tensors.
        torch.cuda.empty_cache()
        if len(questions) == 1:
            raise MemoryError("too little memory for this model and one utterance")
        half = len(questions) // 2
        return self._answered(questions[:half]) + self._answered(questions[half:])

    def _inputs(self, samples: np.ndarray, prompt: str) -> Inputs:
        """What the model takes for one question: each tensor [1, ...], but `input_features` [windows, mels, frames]."""
        clip = np.pad(samples, (0, max(0, SHORTEST - len(samples)))).astype(np.float32, copy=False)
        made = dict(self._kind.inputs(self._processor, clip, prompt))
        if "input_features" not in made:
            raise ModelError("this version of transformers does not take audio for this model; pip install -U 'transformers<5'")
        return made

    def _written(self, inputs: Sequence[Inputs]) -> list[str]:
        """What the model writes for questions that were made ready, together."""
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
            f"{folder}: transformers {transformers.__version__} has no {kind.model}; pip install -U 'transformers<5'"
        )
    if kind.inputs is _by_mistral and not (is_mistral_common_available() and is_soundfile_available()):
        raise ModelError(f"{folder}: Voxtral needs the package mistral-common; pip install 'mistral-common[audio]'")
    processor = getattr(transformers, kind.processor).from_pretrained(folder, **SAFELY)
    if kind.inputs is _by_template:
        template = processor.chat_template or processor.tokenizer.chat_template
        if not isinstance(template, str):
            raise ModelError(f"{folder}: it has no chat template (chat_template.jinja), so nothing can be asked")
        processor.chat_template = template
        if _chat(processor, "").count(processor.audio_token) != 1:
            raise ModelError(f"{folder}: its chat template has no place for audio")
    return processor


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer."""
    found: set[int] = set()
    for holder in (tokenizer, model.generation_config, model.config, model.config.get_text_config()):
        tokens = getattr(holder, "eos_token_id", None)
        found.update(tokens if isinstance(tokens, list) else [] if tokens is None else [tokens])
    if not found:
        raise ModelError("it names no token that ends an answer (eos_token_id)")
    return sorted(found)


def _chat(processor: Any, prompt: str) -> str:
    """The conversation as the model was trained to read it; no text of the prompt is taken for a mark such as <|im_end|>."""
    content = [{"type": "audio", "audio": ""}, {"type": "text", "text": prompt.replace("<", "< ")}]
    chat = [{"role": "user", "content": content}]
    template = processor.chat_template
    return str(processor.tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True))


def _by_template(processor: Any, clip: np.ndarray, prompt: str) -> Any:
    return processor(text=[_chat(processor, prompt)], audio=[clip], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")


def _by_mistral(processor: Any, clip: np.ndarray, prompt: str) -> Any:
    """mistral-common writes the conversation, and takes the audio as a file; it takes no text of the prompt for a mark."""
    audio = {"type": "audio", "base64": base64.b64encode(wav(pcm(clip))).decode()}
    return processor.apply_chat_template([{"role": "user", "content": [audio, {"type": "text", "text": prompt}]}])


_OMNI = Kind("Qwen2_5OmniThinkerForConditionalGeneration", "Qwen2_5OmniProcessor", _by_template)
KINDS = {
    "qwen2_audio": Kind("Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor", _by_template),
    "qwen2_5_omni": _OMNI,
    "qwen2_5_omni_thinker": _OMNI,
    "voxtral": Kind("VoxtralForConditionalGeneration", "VoxtralProcessor", _by_mistral, fixed_window=False),
}
"""By the `model_type` of a folder's configuration. Of Qwen2.5-Omni only the part that hears and writes is loaded."""

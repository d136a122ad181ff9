"""Kimi-Audio by its own package, kimia_infer: the one back end that runs code which comes with a model.

The package is that of the repository MoonshotAI/Kimi-Audio, and is not installed with msfser. It asks for a GPU, loads the model
with its code, looks for a second model (`SPEECH_TOKENS`) in the hub's cache by name, and reads each utterance from a file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msfser_cli.backends import asking
from msfser_cli.backends.describers import pcm, prosody, wav
from msfser_cli.errors import MissingModelError, ModelError, MsfserError
from msfser_cli.profiles.models import ModelFolder, locate
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.backends.asking import Question
    from msfser_cli.settings import DescribeSettings

REQUIRES = ("torch",)

MODEL = "moonshotai/Kimi-Audio-7B-Instruct"
SPEECH_TOKENS = "THUDM/glm-4-voice-tokenizer"
"""The model that turns speech into the tokens which Kimi-Audio reads; the package knows it by this name alone."""

LONGEST_SECONDS = 60
"""A longer utterance is not asked about."""

GREEDY = {
    "output_type": "text", "text_temperature": 0.0, "text_top_k": 1, "text_repetition_penalty": 1.0,
    "audio_temperature": 0.0, "audio_top_k": 1, "audio_repetition_penalty": 1.0, "max_new_tokens": asking.MOST_TOKENS,
}  # fmt: skip


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model that is asked, `MODEL` unless one is named. ModelError where it, its second model or the package is not here."""
    # `REQUIRES` would have it installed by this name, under which the package index has none of theirs.
    if importlib.util.find_spec("kimia_infer") is None:
        raise ModelError(
            "the describer kimi-audio needs the package kimia_infer; "
            "install it from its repository, MoonshotAI/Kimi-Audio on GitHub"
        )
    found, tokens = _located(settings.target or MODEL), _located(SPEECH_TOKENS)
    return ModelFolder(found.path, f"{found.identity}, {tokens.identity}, {asking.PROMPT}")


def _located(name: str) -> ModelFolder:
    try:
        return locate(name)
    except MissingModelError as error:
        raise MissingModelError(
            f"the describer kimi-audio needs {name}, whole and with its code; where you trust that, get it with: "
            f"hf download {name}"
        ) from error


def load(settings: DescribeSettings, model: ModelFolder) -> asking.Asked:
    """The describer on `model`. ModelError, naming the folder, for what the package cannot load."""
    import torch
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True

    try:
        with _elsewhere():
            package = importlib.import_module("kimia_infer.api.kimia")
        with _silenced():
            kimi = package.KimiAudio(model_path=str(model.path), load_detokenizer=False)
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"the GPU's memory is too small for {model.path}") from error
    except (MsfserError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{model.path}: kimia_infer cannot load this model ({type(error).__name__}: {error})") from error
    return asking.Asked(Listener(kimi), prosody.load(settings))


class Listener:
    """Kimi-Audio, asked one question at a time."""

    def __init__(self, kimi: Any) -> None:
        self._kimi = kimi

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """What the model writes for each question; None for one that is too long."""
        return [self._answer(q) if len(q.samples) <= LONGEST_SECONDS * SAMPLE_RATE_HZ else None for q in questions]

    def _answer(self, question: Question) -> str:
        import torch

        with tempfile.NamedTemporaryFile(prefix="msfser", suffix=".wav") as file:
            file.write(wav(pcm(question.samples)))
            file.flush()
            messages = [
                {"role": "user", "message_type": "text", "content": question.prompt},
                {"role": "user", "message_type": "audio", "content": file.name},
            ]
            try:
                with _silenced():
                    _, text = self._kimi.generate(messages, **GREEDY)
            except torch.OutOfMemoryError as error:
                raise MemoryError("the GPU's memory is too small for Kimi-Audio and this utterance") from error
        return str(text)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In a folder that goes again: the package begins a log where it is imported. What it logs on is taken from it afterwards."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)
        with contextlib.suppress(ImportError):
            importlib.import_module("loguru").logger.remove()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Without the progress bars that the package draws for every answer."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        yield

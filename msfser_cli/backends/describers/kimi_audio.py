"""Kimi-Audio with its own package, kimia_infer. This is the only back end that runs code that comes with a model.

The package comes from the repository MoonshotAI/Kimi-Audio. It is not installed with msfser. It needs a GPU, runs the model's
own code, looks up a second model (`SPEECH_TOKENS`) by name in the hub's cache, and reads each utterance from a file.
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
from msfser_cli.backends.inference import Batches
from msfser_cli.backends.loading import loading
from msfser_cli.errors import MissingModelError, ModelError
from msfser_cli.model_store.models import ModelFolder, locate
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.backends.asking import Question
    from msfser_cli.settings import DescribeSettings

REQUIRES = ("torch",)

MODEL = "moonshotai/Kimi-Audio-7B-Instruct"
SPEECH_TOKENS = "THUDM/glm-4-voice-tokenizer"
"""The model that turns speech into Kimi-Audio's input tokens. The package has this name built in."""

LONGEST_SECONDS = 60
"""Longer utterances are not sent to the model. Their description is `rejected`, so the measured one is used."""

GREEDY = {
    "output_type": "text", "text_temperature": 0.0, "text_top_k": 1, "text_repetition_penalty": 1.0,
    "audio_temperature": 0.0, "audio_top_k": 1, "audio_repetition_penalty": 1.0, "max_new_tokens": asking.MOST_TOKENS,
}  # fmt: skip


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model named in `settings`, else `MODEL`. ModelError if it, its second model or the package is missing."""
    # Not in `REQUIRES`: its message would say `pip install kimia_infer`, but the package index does not have it.
    if importlib.util.find_spec("kimia_infer") is None:
        raise ModelError(
            "the describer kimi-audio needs the package kimia_infer; "
            "install it from its repository, MoonshotAI/Kimi-Audio on GitHub"
        )
    model, tokens = _locate(settings.target or MODEL), _locate(SPEECH_TOKENS)
    return ModelFolder(model.path, f"{model.identity}, {tokens.identity}, {asking.PROMPT}")


def _locate(name: str) -> ModelFolder:
    try:
        return locate(name)
    except MissingModelError as error:
        raise MissingModelError(
            f"the describer kimi-audio needs the model {name} with its code; if you trust that code, run: hf download {name}"
        ) from error


def load(settings: DescribeSettings, model: ModelFolder) -> asking.AskingDescriber:
    """The describer with `model`. ModelError, with the folder's name, if the package cannot load it. ResourceError if the GPU is
    too small.
    """
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True

    with loading(model.path, "kimia_infer cannot load this model"):
        with _in_temporary_folder():
            package = importlib.import_module("kimia_infer.api.kimia")
        with _without_output():
            kimi = package.KimiAudio(model_path=str(model.path), load_detokenizer=False)
    return asking.AskingDescriber(Listener(kimi), prosody.load(settings))


class Listener:
    """Kimi-Audio. It answers one question at a time. `kimi` is the package's own model object."""

    def __init__(self, kimi: Any) -> None:
        self._kimi = kimi

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """The model's answer to each question; None for an utterance longer than `LONGEST_SECONDS`. MemoryError if the GPU is
        too small for one utterance.
        """
        answers: list[str | None] = [None] * len(questions)
        heard = [i for i, question in enumerate(questions) if len(question.samples) <= LONGEST_SECONDS * SAMPLE_RATE_HZ]
        lengths = [len(questions[i].samples) for i in heard]
        for [j], answer in Batches(0).over(lengths, lambda chosen: self._answer(questions[heard[chosen[0]]])):
            answers[heard[j]] = answer
        return answers

    def _answer(self, question: Question) -> str:
        with tempfile.NamedTemporaryFile(prefix="msfser", suffix=".wav") as file:
            file.write(wav(pcm(question.samples)))
            file.flush()
            messages = [
                {"role": "user", "message_type": "text", "content": question.prompt},
                {"role": "user", "message_type": "audio", "content": file.name},
            ]
            with _without_output():
                _, text = self._kimi.generate(messages, **GREEDY)
        return str(text)


@contextlib.contextmanager
def _in_temporary_folder() -> Iterator[None]:
    """Run the import of the package in a temporary folder, because it opens a log file in the current one. Then stop its log."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
        with contextlib.suppress(ImportError):
            importlib.import_module("loguru").logger.remove()


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Hide the package's output: it draws progress bars for every answer."""
    with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null), contextlib.redirect_stdout(null):
        yield

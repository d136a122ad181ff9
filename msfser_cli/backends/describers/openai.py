"""An audio language model on a server with OpenAI's chat completions API, such as vLLM: openai:http://localhost:8000/v1.

Every answer is stored at once (`store.answers`), so a run that ends early keeps the answers it paid for. A problem with the
server, the model or the key ends the run. Fix it, and the same command continues. If the server refuses a single utterance, only
that utterance goes without an answer. To tell the two cases apart, msfser sends a plain tone: if the server refuses that as well,
the server is at fault.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from msfser_cli.backends import asking
from msfser_cli.backends.chat_server import NotTakenError, Server, connect, in_thread
from msfser_cli.backends.describers import pcm, prosody, wav
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.model_store.models import ModelFolder, cache_folder
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.answers import Answers

if TYPE_CHECKING:
    from msfser_cli.settings import DescribeSettings

REQUIRES = ("aiohttp",)

PARAMETERS = {"temperature": 0, "max_tokens": asking.MOST_TOKENS, "seed": 0}
"""Sampling parameters of every request: the most likely answer, and a short one."""

SURE_AFTER = 3
"""After this many internal server errors on one utterance, msfser sends a plain tone instead."""
LONGEST_SECONDS = 300
"""Longer utterances are not sent: a request would have tens of megabytes."""


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model's identity: its name. If the settings name no model, msfser asks the server for its only one.

    UsageError if the address is not a URL, or if the server has several models. ModelError if the server does not answer.
    """
    server = _server(settings)
    return _identity(settings.describer_model or _only(server, in_thread(server.models())))


def load(settings: DescribeSettings, model: ModelFolder | None = None) -> asking.AskingDescriber:
    """The describer. ModelError if the server does not answer, lacks the model, or refuses the key."""
    server = _server(settings)
    listed = in_thread(server.models())
    name = settings.describer_model or _only(server, listed)
    if listed is not None and name not in listed:
        raise ModelError(f"{server.base} has no model {name!r}; it has {_first_names(listed)}: choose one with --describer-model")
    if model is not None and model != _identity(name):
        raise ModelError(f"{server.base} now serves another model, {name}, than when the run began; run the same command again")
    served = ServedModel(server, name, Answers(cache_folder()), settings.describer_concurrency)
    return asking.AskingDescriber(served, prosody.Prosody(settings.pitch))


def _identity(name: str) -> ModelFolder:
    return ModelFolder(Path(), f"{name} on a server, {asking.PROMPT}")


def _only(server: Server, listed: list[str] | None) -> str:
    if listed is None:
        raise ModelError(
            f"{server.base} does not list its models; check that the address ends in /v1, or pass --describer-model"
        )
    if not listed:
        raise ModelError(f"{server.base} serves no model; start the server with a model, and run the same command again")
    if len(listed) > 1:
        raise UsageError(f"{server.base} has several models; choose one with --describer-model: {_first_names(listed)}")
    return listed[0]


def _first_names(names: Sequence[str]) -> str:
    return ", ".join([*names[:10], *(["..."] if len(names) > 10 else [])]) or "none"


@dataclass
class ServedModel:
    """The model `name` on `server`. It gets at most `concurrency` requests at once."""

    server: Server
    name: str
    answers: Answers
    concurrency: int
    _takes_audio: bool = False

    def answer(self, questions: Sequence[asking.Question]) -> list[str | None]:
        """The answers in the order of `questions`; None for an utterance that the server refuses, or that is empty or too long.

        ModelError if the server fails.
        """
        return in_thread(self._all(questions)) if questions else []

    async def _all(self, questions: Sequence[asking.Question]) -> list[str | None]:
        answers: list[str | None] = [None] * len(questions)
        queue = iter(enumerate(questions))

        async def work() -> None:
            for i, question in queue:
                answers[i] = await self._one(session, question)

        async with self.server.session() as session:
            tasks = [asyncio.ensure_future(work()) for _ in range(min(self.concurrency, len(questions)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return answers

    async def _one(self, session: aiohttp.ClientSession, question: asking.Question) -> str | None:
        if not 0 < len(question.samples) <= LONGEST_SECONDS * SAMPLE_RATE_HZ:
            return None
        sound = pcm(question.samples)
        request = json.dumps([self.name, question.prompt, PARAMETERS], sort_keys=True)
        key = hashlib.sha256(request.encode() + b"\0" + sound).hexdigest()
        if (stored := self.answers.get(key)) is not None:
            return json.loads(stored)  # type: ignore[no-any-return]
        try:
            answer = await self.server.complete(session, self._request(question.prompt, sound), SURE_AFTER)
        except NotTakenError as refusal:
            if refusal.is_sure and self._takes_audio:
                return None
            await self._try_a_tone(session, refusal)
            try:
                answer = await self.server.complete(session, self._request(question.prompt, sound), 1)
            except NotTakenError:
                return None
        self._takes_audio = True
        self.answers.put(key, json.dumps(answer))
        return answer

    async def _try_a_tone(self, session: aiohttp.ClientSession, refusal: NotTakenError) -> None:
        """Ask the server about a second of a plain tone. ModelError if it refuses that too: then the server is at fault."""
        tone = (3000 * np.sin(2 * np.pi * 220 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype("<i2").tobytes()
        try:
            await self.server.complete(session, self._request("Describe this sound in one sentence.", tone))
        except NotTakenError:
            raise ModelError(
                f"{self.server.base} refuses even a plain tone for {self.name} ({refusal}); check that this model takes audio, "
                "fix the server, and run the same command again: earlier answers are kept"
            ) from None
        self._takes_audio = True

    def _request(self, prompt: str, sound: bytes) -> bytes:
        data = base64.b64encode(wav(sound)).decode()
        audio = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        message = {"role": "user", "content": [audio, {"type": "text", "text": prompt}]}
        return json.dumps({"model": self.name, "messages": [message], **PARAMETERS}).encode()


def _server(settings: DescribeSettings) -> Server:
    return connect(settings.target, settings.describer_key_file, settings.describer_timeout)

"""An audio language model on a server that speaks OpenAI's chat completions, as vLLM does: openai:http://localhost:8000/v1.

An answer that was paid for is remembered (`store.answers`), so a run that ends early loses none. What is wrong with the server,
the model or the key ends the run: with the server mended, the same command goes on. Only what the server will not take of a
single utterance is that utterance's own; in case of doubt, the server is asked about a plain tone to tell.

The requests run in a thread: a signal raises in the main thread, and would be lost in the middle of asyncio's work.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import hashlib
import ipaddress
import json
import logging
import os
import random
import stat
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import numpy as np

from msfser_cli import __version__
from msfser_cli.backends import asking
from msfser_cli.backends.background import start
from msfser_cli.backends.describers import pcm, prosody, wav
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.profiles.models import ModelFolder, cache_folder
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.answers import Answers

if TYPE_CHECKING:
    from msfser_cli.settings import DescribeSettings

REQUIRES = ("aiohttp",)

T = TypeVar("T")
logger = logging.getLogger("msfser")

PARAMETERS = {"temperature": 0, "max_tokens": asking.MOST_TOKENS, "seed": 0}
"""What is asked for besides: the likeliest answer, and a short one."""

TRIES = 8
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""A request that fails is sent again after about so many seconds, twice as many each time: two minutes in all."""
SURE_AFTER = 3
"""After so many internal errors over one utterance, it is seen whether a plain tone fares better."""
LONGEST_ASKED_WAIT = 600.0
"""A server that asks for more patience (Retry-After, in seconds) ends the run."""

MOST_BYTES = 1 << 20
MOST_CHARACTERS = 10_000
"""Of a reply, and of an answer: far above what `asking.MOST_TOKENS` can be."""
LONGEST_SECONDS = 300
"""A longer utterance is not sent: it would be tens of megabytes."""

KEY_VARIABLES = ("MSFSER_OPENAI_API_KEY", "OPENAI_API_KEY")
_KEY_HINT = f"set {KEY_VARIABLES[0]}, or name a file that holds it with --describer-key-file"

# What a server says of a single request: it is malformed, too large, or of a kind that it does not take.
_NOT_TAKEN = (400, 413, 415, 422)
_TRY_AGAIN = (408, 425, 429)
_NO_LIST = (404, 405, 501)


def needs(settings: DescribeSettings) -> ModelFolder:
    """The model by its name; the server is asked only where none is named.

    UsageError for an address that is none, or for more than one model; ModelError where the server does not say.
    """
    server = _server(settings)
    return _identified(settings.describer_model or _only(server, _apart(server.models())))


def load(settings: DescribeSettings, model: ModelFolder | None = None) -> asking.Asked:
    """The describer. ModelError where the server is not there, has not got the model, or does not take the key."""
    server = _server(settings)
    listed = _apart(server.models())
    name = settings.describer_model or _only(server, listed)
    if listed is not None and name not in listed:
        raise ModelError(f"{server.base} has no model {name!r}; it has {_some(listed)}: name one with --describer-model")
    if model is not None and model != _identified(name):
        raise ModelError(f"{server.base} now serves {name}, which is not what the run began with; run the same command again")
    served = Served(server, name, Answers(cache_folder()), settings.describer_concurrency)
    return asking.Asked(served, prosody.Prosody(settings.pitch))


def _identified(name: str) -> ModelFolder:
    return ModelFolder(Path(), f"{name} on a server, {asking.PROMPT}")


def _only(server: Server, listed: list[str] | None) -> str:
    if listed is None:
        raise ModelError(f"{server.base} does not list its models; does the address end in /v1? If so, use --describer-model")
    if not listed:
        raise ModelError(f"{server.base} has no model")
    if len(listed) > 1:
        raise UsageError(f"{server.base} has several models; name one with --describer-model: {_some(listed)}")
    return listed[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:10], *(["..."] if len(names) > 10 else [])]) or "none"


class _NoReplyError(Exception):
    """The server gave no whole reply; why, in words."""


class _NotTakenError(Exception):
    """The server will not take this utterance. `is_sure`: it says so itself, and has not only failed over it."""

    def __init__(self, why: str, *, is_sure: bool) -> None:
        super().__init__(why)
        self.is_sure = is_sure


@dataclass(frozen=True)
class Reply:
    """What came back. `wait`: how many seconds the server asks to wait."""

    status: int
    body: bytes
    reason: str
    location: str
    wait: float | None


@dataclass(frozen=True)
class Server:
    """Requests to `base`, and to nowhere else: redirections are not followed, and the key goes to this address only."""

    base: str
    key: str | None = field(repr=False)
    timeout: float

    def session(self) -> aiohttp.ClientSession:
        """To be used in a running loop, and closed."""
        headers = {"User-Agent": f"msfser/{__version__}", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self.base),
        )

    async def request(self, session: aiohttp.ClientSession, method: str, path: str, body: bytes | None = None) -> Reply:
        """The whole reply. _NoReplyError where there is none within the time, or it is too large."""
        content = {"Content-Type": "application/json"} if body else {}
        try:
            async with session.request(method, self.base + path, data=body, headers=content, allow_redirects=False) as reply:
                received = bytearray()
                async for block in reply.content.iter_any():
                    received += block
                    if len(received) > MOST_BYTES:
                        raise _NoReplyError(f"its reply is longer than {MOST_BYTES} bytes")
                wait = _retry_after(reply.headers.get("Retry-After"))
                return Reply(reply.status, bytes(received), reply.reason or "", reply.headers.get("Location", ""), wait)
        except asyncio.TimeoutError:
            raise _NoReplyError(f"no whole reply within {self.timeout:g} s") from None
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError) as error:
            # Not chained: the library's errors hold the request, the key among it.
            raise _NoReplyError(self.without_key(f"{type(error).__name__}: {error}")) from None

    async def models(self) -> list[str] | None:
        """The names of its models; None where it has no such list. ModelError where it is not there, or refuses."""
        try:
            async with self.session() as session:
                reply = await self.request(session, "GET", "/models")
        except _NoReplyError as error:
            raise ModelError(f"{self.base} does not answer ({error}); is the server running?") from None
        if reply.status in _NO_LIST:
            return None
        if reply.status != 200:
            raise self.refused(reply)
        try:
            return [str(model["id"]) for model in json.loads(reply.body)["data"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ModelError(f"{self.base}/models is no list of models; does the address end in /v1?") from None

    def refused(self, reply: Reply) -> ModelError:
        """What a reply that no other request would better says, and what to do."""
        if reply.status in (401, 403):
            has = "does not take the key" if self.key else "wants a key"
            return ModelError(f"{self.base} {has} ({self.said(reply)}); {_KEY_HINT}")
        if 300 <= reply.status < 400:
            where = self.without_key(reply.location)[:200]
            return ModelError(f"{self.base} redirects to {where}, which is not followed; name the address itself if you trust it")
        remedy = "; has it this model, and does the address end in /v1?" if reply.status == 404 else ""
        return ModelError(f"{self.base} refuses: {self.said(reply)}{remedy}")

    def said(self, reply: Reply) -> str:
        """The status, and the server's own words for it, where they are short."""
        message: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(reply.body)
            for name in ("error", "message", "detail"):
                message = message.get(name, message) if isinstance(message, dict) else message
        words = f": {' '.join(message.split())[:300]}" if isinstance(message, str) else ""
        return self.without_key(f"{reply.status} {reply.reason}{words}")

    def without_key(self, text: str) -> str:
        """`text`, which may repeat what the server was sent."""
        return text.replace(self.key, "(the key)") if self.key else text


@dataclass
class Served:
    """The model `name` on `server`; at most `concurrency` questions are asked at once."""

    server: Server
    name: str
    answers: Answers
    concurrency: int
    _takes_audio: bool = False

    def answer(self, questions: Sequence[asking.Question]) -> list[str | None]:
        """In the order of `questions`; None where the server will not take one. ModelError where it gives out."""
        return _apart(self._all(questions)) if questions else []

    async def _all(self, questions: Sequence[asking.Question]) -> list[str | None]:
        answers: list[str | None] = [None] * len(questions)
        left = iter(enumerate(questions))

        async def work() -> None:
            for i, question in left:
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
        asked = json.dumps([self.name, question.prompt, PARAMETERS], sort_keys=True)
        key = hashlib.sha256(asked.encode() + b"\0" + sound).hexdigest()
        if (known := self.answers.get(key)) is not None:
            return json.loads(known)  # type: ignore[no-any-return]
        try:
            answer = await self._ask(session, question.prompt, sound, SURE_AFTER)
        except _NotTakenError as refusal:
            if refusal.is_sure and self._takes_audio:
                return None
            await self._try_a_tone(session, refusal)
            try:
                answer = await self._ask(session, question.prompt, sound, 1)
            except _NotTakenError:
                return None
        self._takes_audio = True
        self.answers.put(key, json.dumps(answer))
        return answer

    async def _try_a_tone(self, session: aiohttp.ClientSession, refusal: _NotTakenError) -> None:
        """ModelError unless the server answers about a second of a plain tone: so it was not the utterance that it refused."""
        tone = (3000 * np.sin(2 * np.pi * 220 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype("<i2").tobytes()
        try:
            await self._ask(session, "Describe this sound in one sentence.", tone, TRIES)
        except _NotTakenError:
            raise ModelError(
                f"{self.server.base} does not take what {self.name} is asked, not even about a tone ({refusal}). Is this a model "
                "that hears? If so, mend the server and run the same command again: what it has answered is kept"
            ) from None
        self._takes_audio = True

    async def _ask(self, session: aiohttp.ClientSession, prompt: str, sound: bytes, most: int) -> str | None:
        """The model's answer; None where it withholds it.

        _NotTakenError where the server refuses this request, or has failed over it `most` times, which some do over certain
        sounds; ModelError for what another utterance would not better.
        """
        request = _request(self.name, prompt, sound)
        failed = 0
        for attempt in range(1, TRIES + 1):
            reply: Reply | None = None
            try:
                reply = await self.server.request(session, "POST", "/chat/completions", request)
                if reply.status == 200:
                    answer = _answer(reply.body)
                    return None if answer is None else self.server.without_key(answer)
                why = self.server.said(reply)
            except (_NoReplyError, ValueError) as error:
                why = str(error)
            wait = None
            if reply:
                wait = reply.wait
                if reply.status in _NOT_TAKEN:
                    raise _NotTakenError(why, is_sure=True)
                if 300 <= reply.status < 500 and reply.status not in _TRY_AGAIN:
                    raise self.server.refused(reply)
                failed += reply.status in (200, 500)
                if failed == most:
                    raise _NotTakenError(why, is_sure=False)
            if attempt == TRIES or (wait or 0) > LONGEST_ASKED_WAIT:
                break
            logger.debug("%s: %s; trying again", self.server.base, why)
            usual = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
            await asyncio.sleep(random.uniform(usual / 2, usual) if wait is None else wait)
        asks = f", and asks to be left alone for {wait:.0f} s" if wait else ""
        raise ModelError(
            f"{self.server.base} gives no answers ({why}){asks}. What it has answered is kept: run the same command again later"
        )


def _apart(whole: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns or raises. It runs in a thread, and is cancelled where a signal ends the wait for it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(whole)
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(loop.run_until_complete(task))
        except BaseException as error:
            done.set_exception(error)
        finally:
            loop.close()

    try:
        start(work)
        return done.result()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(task.cancel)
        raise


def _server(settings: DescribeSettings) -> Server:
    return Server(_address(settings.target), _key(settings.describer_key_file), settings.describer_timeout)


def _address(target: str) -> str:
    """The base URL without a slash at its end. UsageError, which does not repeat a password, where it is none."""
    usage = "the describer openai takes a server's base URL, as in openai:http://localhost:8000/v1"
    try:
        parts = urlsplit(target)
        parts.port  # noqa: B018 - it may raise
    except ValueError:
        raise UsageError(usage) from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{usage}, without a user or password in it; {_KEY_HINT}")
    if parts.query or parts.fragment:
        raise UsageError(f"{usage}, without ? or #; for a key, {_KEY_HINT}")
    if parts.scheme not in ("http", "https") or not parts.hostname or not target.isprintable() or " " in target:
        raise UsageError(usage)
    return target.rstrip("/")


def _key(path: str | None) -> str | None:
    """The key from the file, else from the environment. UsageError for a file that holds none, or that others may read."""
    if path is None:
        found = next(((name, os.environ[name]) for name in KEY_VARIABLES if os.environ.get(name)), None)
        if found is None:
            return None
        origin, key = found
    else:
        origin, key = path, _read_key(path)
        if not key.strip():
            raise UsageError(f"{path}: there is no key in it")
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{origin}: a key is one line of ASCII characters without spaces")
    return key or None


def _read_key(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"{path}: not a regular file")
            if mode & stat.S_IRWXO:
                raise UsageError(f"{path}: other users may read this key, or write it; chmod 600 {path}")
            return file.read(10_000).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the key cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _proxy(base: str) -> str | None:
    """The environment's proxy for this address (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); none for this machine itself."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    if host == "localhost" or proxy_bypass(host):
        return None
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy.startswith(("http://", "https://")):
        raise UsageError(f"the proxy of the environment for {base} must be an http:// address; or add {host} to NO_PROXY")
    return proxy


def _request(model: str, prompt: str, sound: bytes) -> bytes:
    data = base64.b64encode(wav(sound)).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    message = {"role": "user", "content": [audio, {"type": "text", "text": prompt}]}
    return json.dumps({"model": model, "messages": [message], **PARAMETERS}).encode()


def _answer(body: bytes) -> str | None:
    """The text of a chat completion; None where it was withheld. ValueError where it is none."""
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
        withheld = choice.get("finish_reason") == "content_filter" or message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"what it sends is no chat completion ({type(error).__name__})") from None
    if withheld:
        return None
    if content is not None and not isinstance(content, str):
        raise ValueError("what it sends is no chat completion (its content is no text)")
    # A lone surrogate, which JSON can hold, is no text that can be written.
    return (content or "")[:MOST_CHARACTERS].encode("utf-8", "replace").decode()


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, of a header that names them or a date."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        if value and value.strip().isdigit():
            return float(value)
        if value:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None

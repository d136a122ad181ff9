"""A server with OpenAI's chat completions API: its address, its key, and requests that are tried again while that can help.

The requests run in a thread. A signal raises its exception in the main thread, where asyncio could swallow it.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ipaddress
import json
import logging
import os
import random
import stat
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from msfser_cli import __version__
from msfser_cli.background import start
from msfser_cli.errors import ModelError, UsageError

T = TypeVar("T")
logger = logging.getLogger("msfser")

TRIES = 8
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds to wait before a failed request is sent again. The wait doubles each time; `TRIES` tries take about two minutes."""
LONGEST_RETRY_AFTER = 600.0
"""If the server asks for a longer wait (Retry-After, in seconds), the run ends."""

MOST_BYTES = 1 << 20
MOST_CHARACTERS = 10_000
"""Limits of a reply in bytes and of an answer in characters. Both are far above what a description needs."""

KEY_VARIABLES = ("MSFSER_OPENAI_API_KEY", "OPENAI_API_KEY")
_KEY_HINT = f"set {KEY_VARIABLES[0]}, or pass a file with the key as --describer-key-file"

# HTTP statuses that concern a single request: malformed, too large, or an unsupported type.
_NOT_TAKEN = (400, 413, 415, 422)
_TRY_AGAIN = (408, 425, 429)
_NO_LIST = (404, 405, 501)


def connect(address: str, key_file: str | None, timeout: float) -> Server:
    """The server at the base URL `address`. key_file: None: the key is that of the environment, if it has one.

    timeout: time limit of a request, in seconds. UsageError if the address is not a URL, or if the file has no key.
    """
    return Server(_address(address), _key(key_file), timeout)


class NoReplyError(Exception):
    """The server sent no complete reply. The message says why."""


class NotTakenError(Exception):
    """The server refused this utterance. is_sure: the status says so. Otherwise the server failed on it several times."""

    def __init__(self, why: str, *, is_sure: bool) -> None:
        super().__init__(why)
        self.is_sure = is_sure


@dataclass(frozen=True)
class Reply:
    """A reply of the server. wait: the seconds that it asks msfser to wait (Retry-After); None if it does not say."""

    status: int
    body: bytes
    reason: str
    location: str
    wait: float | None


@dataclass(frozen=True)
class Server:
    """Sends requests to `base` only. Redirections are not followed, so the key goes to no other address.

    base: URL without a slash at its end. timeout: time limit of a request, in seconds.
    """

    base: str
    key: str | None = field(repr=False)
    timeout: float

    def session(self) -> aiohttp.ClientSession:
        """A new session. Open it inside a running event loop, and close it."""
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
        """The complete reply. NoReplyError if it does not arrive in time, or is larger than `MOST_BYTES`."""
        content = {"Content-Type": "application/json"} if body else {}
        try:
            async with session.request(method, self.base + path, data=body, headers=content, allow_redirects=False) as reply:
                received = bytearray()
                async for block in reply.content.iter_any():
                    received += block
                    if len(received) > MOST_BYTES:
                        raise NoReplyError(f"its reply has more than {MOST_BYTES} bytes")
                wait = _retry_after(reply.headers.get("Retry-After"))
                return Reply(reply.status, bytes(received), reply.reason or "", reply.headers.get("Location", ""), wait)
        except asyncio.TimeoutError:
            raise NoReplyError(f"no complete reply within {self.timeout:g} s") from None
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError) as error:
            # Not chained: the library's errors hold the request, and with it the key.
            raise NoReplyError(self.without_key(f"{type(error).__name__}: {error}")) from None

    async def models(self) -> list[str] | None:
        """The names of the server's models; None if it has no such list. ModelError if it does not answer, or refuses."""
        try:
            async with self.session() as session:
                reply = await self.request(session, "GET", "/models")
        except NoReplyError as error:
            raise ModelError(f"{self.base} does not answer ({error}); check that the server is running") from None
        if reply.status in _NO_LIST:
            return None
        if reply.status != 200:
            raise self.refused(reply)
        try:
            return [str(model["id"]) for model in json.loads(reply.body)["data"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ModelError(f"{self.base}/models is not a list of models; check that the address ends in /v1") from None

    def refused(self, reply: Reply) -> ModelError:
        """The error for a reply that would be the same for every request: what the server says, and what to do."""
        if reply.status in (401, 403):
            problem = "refuses the key" if self.key else "needs a key"
            return ModelError(f"{self.base} {problem} ({self.status_line(reply)}); {_KEY_HINT}")
        if 300 <= reply.status < 400:
            where = self.without_key(reply.location)[:200]
            return ModelError(
                f"{self.base} redirects to {where}; msfser does not follow redirects: if you trust that address, pass it instead"
            )
        remedy = "; check that it has this model, and that the address ends in /v1" if reply.status == 404 else ""
        return ModelError(f"{self.base} refuses the request: {self.status_line(reply)}{remedy}")

    def status_line(self, reply: Reply) -> str:
        """The status, and at most 300 characters of the server's own message, on one line and without the key."""
        message: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(reply.body)
            for name in ("error", "message", "detail"):
                message = message.get(name, message) if isinstance(message, dict) else message
        words = f": {' '.join(message.split())[:300]}" if isinstance(message, str) else ""
        return self.without_key(f"{reply.status} {reply.reason}{words}")

    def without_key(self, text: str) -> str:
        """`text` with the key replaced. Servers may repeat what they were sent."""
        return text.replace(self.key, "(the key)") if self.key else text

    async def complete(self, session: aiohttp.ClientSession, request: bytes, most: int | None = None) -> str | None:
        """The text of the chat completion that `request` asks for; None if the server withholds it.

        NotTakenError if the server refuses this request, or fails on it `most` times: some servers fail on certain sounds. most:
        None: `TRIES`. ModelError if the problem does not depend on the utterance.
        """
        failed, most = 0, TRIES if most is None else most
        for attempt in range(1, TRIES + 1):
            reply: Reply | None = None
            try:
                reply = await self.request(session, "POST", "/chat/completions", request)
                if reply.status == 200:
                    answer = _answer(reply.body)
                    return None if answer is None else self.without_key(answer)
                why = self.status_line(reply)
            except (NoReplyError, ValueError) as error:
                why = str(error)
            wait = None
            if reply:
                wait = reply.wait
                if reply.status in _NOT_TAKEN:
                    raise NotTakenError(why, is_sure=True)
                if 300 <= reply.status < 500 and reply.status not in _TRY_AGAIN:
                    raise self.refused(reply)
                failed += reply.status in (200, 500)
                if failed == most:
                    raise NotTakenError(why, is_sure=False)
            if attempt == TRIES or (wait or 0) > LONGEST_RETRY_AFTER:
                break
            logger.debug("%s: %s; trying again", self.base, why)
            usual = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
            await asyncio.sleep(random.uniform(usual / 2, usual) if wait is None else wait)
        asks = f" and asks msfser to wait {wait:.0f} s" if wait else ""
        raise ModelError(
            f"{self.base} does not answer ({why}){asks}; run the same command again later: earlier answers are kept"
        )


def in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result or the error of `coroutine`. It runs in a thread. If a signal ends the wait, it is cancelled."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
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
        with contextlib.suppress(RuntimeError):  # the loop is already closed
            loop.call_soon_threadsafe(task.cancel)
        raise


def _address(target: str) -> str:
    """The base URL without a slash at its end. UsageError if `target` is not a URL; the message does not repeat a password."""
    usage = "the describer openai needs a server's base URL, such as openai:http://localhost:8000/v1"
    try:
        parts = urlsplit(target)
        parts.port  # noqa: B018 - raises ValueError for a bad port
    except ValueError:
        raise UsageError(usage) from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{usage}, without a user or password; {_KEY_HINT}")
    if parts.query or parts.fragment:
        raise UsageError(f"{usage}, without ? or #; to pass a key, {_KEY_HINT}")
    if parts.scheme not in ("http", "https") or not parts.hostname or not target.isprintable() or " " in target:
        raise UsageError(usage)
    return target.rstrip("/")


def _key(path: str | None) -> str | None:
    """The key from the file `path`, else from the environment, else None.

    UsageError if the file has no key, or if other users may read it.
    """
    if path is None:
        variable = next(((name, os.environ[name]) for name in KEY_VARIABLES if os.environ.get(name)), None)
        if variable is None:
            return None
        origin, key = variable
    else:
        origin, key = path, _read_key(path)
        if not key.strip():
            raise UsageError(f"{path}: the file has no key; write the server's key into it")
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{origin}: not a key; a key is one line of ASCII characters without spaces")
    return key or None


def _read_key(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"{path}: not a regular file")
            if mode & stat.S_IRWXO:
                raise UsageError(f"{path}: other users can read or change this key; run: chmod 600 {path}")
            return file.read(10_000).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read the key: {getattr(error, 'strerror', None) or error}") from None


def _proxy(base: str) -> str | None:
    """The environment's proxy for `base` (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); None for an address of this machine.

    UsageError if the proxy is not an HTTP proxy.
    """
    parts = urlsplit(base)
    host = parts.hostname or ""
    if host == "localhost" or proxy_bypass(host):
        return None
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy.startswith(("http://", "https://")):
        raise UsageError(
            f"the environment's proxy for {base} is not an http:// address; set {parts.scheme.upper()}_PROXY to one, or add "
            f"{host} to NO_PROXY"
        )
    return proxy


def _answer(body: bytes) -> str | None:
    """The text of a chat completion; None if the server withheld it. ValueError if `body` is not a chat completion."""
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
        withheld = choice.get("finish_reason") == "content_filter" or message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its reply is not a chat completion ({type(error).__name__})") from None
    if withheld:
        return None
    if content is not None and not isinstance(content, str):
        raise ValueError("its reply is not a chat completion (the content is not text)")
    # JSON can hold lone surrogates, which cannot be written as UTF-8.
    return (content or "")[:MOST_CHARACTERS].encode("utf-8", "replace").decode()


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, from a Retry-After header in seconds or with a date; None if it is neither."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        if value and value.strip().isdigit():
            return float(value)
        if value:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None

"""A server of chat completions for tests: it checks each request against the published schema, and misbehaves as it is told."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import ssl
import threading
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "hears/one"
CALM = "The speaker's tone is calm and steady, with a moderate pace and little energy."
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Asked:
    """A request for a completion, as it came in."""

    number: int
    prompt: str
    samples: np.ndarray
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def do_GET(self) -> None:
        self.chat.listed += 1
        if not self.path.endswith("/v1/models"):
            return status(404)(self)
        if not self._has_key():
            return status(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})(self)
        return self.chat.models(self)

    def do_POST(self) -> None:
        if not self.path.endswith(PATH):
            return status(404)(self)
        if not self._has_key():
            return status(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})(self)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            prompt, samples = checked(self.headers, body)
        except (AssertionError, ValueError, KeyError) as error:
            self.chat.wrong.append(f"{type(error).__name__}: {error}")
            return status(400, {"error": {"message": "not as in the schema"}})(self)
        with self.chat.lock:
            asked = Asked(len(self.chat.asked), prompt, samples, dict(self.headers))
            self.chat.asked.append(asked)
            self.chat.under_way += 1
            self.chat.most_at_once = max(self.chat.most_at_once, self.chat.under_way)
        try:
            reply = self.chat.reply(asked)
        finally:
            with self.chat.lock:
                self.chat.under_way -= 1
        return reply(self)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    def _has_key(self) -> bool:
        return self.chat.key is None or self.headers.get("Authorization") == f"Bearer {self.chat.key}"


Reply = Callable[[Handler], None]


class ChatServer:
    """Answers on 127.0.0.1 what `reply` says for each request; `key` is the one it wants."""

    def __init__(self, key: str | None = None, names: Sequence[str] = (MODEL,), certificate: Path | None = None) -> None:
        self.key = key
        self.models: Reply = status(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        self.reply: Callable[[Asked], Reply] = lambda asked: says(CALM)
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self.listed = self.under_way = self.most_at_once = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"chat": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def checked(headers: Any, body: bytes) -> tuple[str, np.ndarray]:
    """The text and the samples of a request; AssertionError or ValueError where the published schema does not allow it.

    Of the schema, what concerns user messages of text and audio, with no more properties than it names.
    """
    assert headers["Content-Type"] == "application/json"
    request = json.loads(body, parse_constant=lambda name: exec(f'raise ValueError("{name}")'))
    assert set(request) <= {"model", "messages", "temperature", "max_tokens", "seed"}, set(request)
    assert isinstance(request["model"], str)
    assert type(request["max_tokens"]) is int
    assert request["max_tokens"] >= 1
    assert type(request["seed"]) is int
    assert type(request["temperature"]) in (int, float)
    assert 0 <= request["temperature"] <= 2
    [message] = request["messages"]
    assert set(message) == {"role", "content"}
    assert message["role"] == "user"
    parts = {part["type"]: part for part in message["content"]}
    assert len(parts) == len(message["content"]) == 2
    text, audio = parts["text"], parts["input_audio"]
    assert set(text) == {"type", "text"}
    assert isinstance(text["text"], str)
    assert text["text"]
    assert set(audio) == {"type", "input_audio"}
    assert set(audio["input_audio"]) == {"data", "format"}
    assert audio["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(audio["input_audio"]["data"], validate=True))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert len(samples) == file.getnframes()
    assert len(samples)
    return text["text"], samples


def completion(content: Any, finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}).encode()


def says(content: Any, finish: str = "stop", **message: Any) -> Reply:
    """A completion."""
    return lambda to: to.send(200, completion(content, finish, **message))


def status(code: int, body: Any = b"", **headers: str) -> Reply:
    """A reply with this body, as JSON unless it is bytes; `Retry_After` is the header Retry-After."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda to: to.send(code, content, {name.replace("_", "-"): value for name, value in headers.items()})


def raw(content: bytes) -> Reply:
    """Just these bytes, and the connection is closed."""

    def reply(to: Handler) -> None:
        to.wfile.write(content)
        _close(to)

    return reply


def hangs(to: Handler) -> None:
    """Nothing at all."""
    to.chat.closing.wait()
    _close(to)


def drips(start: bytes, drop: bytes) -> Reply:
    """`start`, then `drop` again and again for as long as anyone listens."""

    def reply(to: Handler) -> None:
        with contextlib.suppress(OSError):
            to.wfile.write(start)
            while not to.chat.closing.wait(0.02):
                to.wfile.write(drop)
        _close(to)

    return reply


def _close(to: Handler) -> None:
    to.close_connection = True
    with contextlib.suppress(OSError):
        to.connection.shutdown(socket.SHUT_RDWR)

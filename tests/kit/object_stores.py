"""Object stores on this machine: S3 by moto, Google's by an emulator. They count what they are asked, and misbehave as told."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from msfser_cli.store import objects

BUCKET = "archive"

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


class S3:
    """A bucket on a server of moto's, within this process.

    requests: what it was asked, such as `GET show/1.wav`; a listing is `GET`. before: is called with each of them, and may return
    a status to answer with.
    """

    scheme = "s3"

    def __init__(self, application: Application) -> None:
        self._application = application
        self.requests: list[str] = []
        self.before: Callable[[str], int | None] = lambda request: None

    def put(self, key: str, content: bytes, *, age: float = 3600) -> None:
        """Write an object, as of `age` seconds ago."""
        from moto.s3.models import s3_backends

        written = s3_backends["123456789012"]["aws"].put_object(BUCKET, key, content)
        written.last_modified = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(seconds=age)

    def remove(self, key: str) -> None:
        del self._bucket().keys[key]

    def reads(self) -> list[str]:
        """The keys of the objects that were read since the last call, sorted. Forgets all requests."""
        keys = sorted(request.partition(" ")[2] for request in self.requests if request.startswith("GET "))
        self.requests.clear()
        return keys

    def answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        key = path.removeprefix(f"/{BUCKET}").strip("/")
        request = f"{environ['REQUEST_METHOD']} {key}".strip()
        self.requests.append(request)
        if status := self.before(request):
            start(f"{status} Told To", [("Content-Length", "0")])
            return []
        return self._application(environ, start)

    def _bucket(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"].buckets[BUCKET]


class GoogleStorage:
    """A bucket on a server of an emulator's, within this process."""

    scheme = "gs"

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        from pyarrow import fs

        with fs.GcsFileSystem().open_output_stream(f"{BUCKET}/{key}") as file:
            file.write(content)


@contextlib.contextmanager
def s3() -> Iterator[S3]:
    """An empty bucket. The environment says where it is, as a user's does."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        store = S3(server._server.app)
        patch.setattr(server._server, "app", store.answer)
        s3_backends["123456789012"]["aws"].create_bucket(BUCKET, "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "y")
        objects._opened.cache_clear()
        try:
            yield store
        finally:
            s3_backends.reset()
            server.stop()


@contextlib.contextmanager
def google_storage(folder: Path) -> Iterator[GoogleStorage]:
    """An empty bucket. The environment says where it is. folder: for the credentials."""
    from gcp_storage_emulator.server import create_server

    tokens = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=tokens.serve_forever, daemon=True).start()
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    credentials = folder / "credentials.json"
    credentials.write_text(json.dumps({
        "type": "authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z",
        "token_uri": f"http://127.0.0.1:{tokens.server_port}/token",
    }))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{server._api._httpd.server_address[1]}")
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        objects._opened.cache_clear()
        try:
            yield GoogleStorage(server)
        finally:
            server.stop()
            tokens.shutdown()
            tokens.server_close()


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "x", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

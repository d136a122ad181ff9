"""A hub on this machine: as much of the protocol as huggingface_hub needs, and what goes wrong with it; a user's machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAM = """
import sys
from pathlib import Path
from msfser_cli import profiles
from msfser_cli.model_store import registry
profiles._FOLDER = Path(sys.argv.pop(1))
registry._FILE = profiles._FOLDER / "registry.toml"
from msfser_cli.cli.app import main
main()
"""
"""msfser with a registry and profiles of the test's own."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob(content: bytes) -> str:
    """git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """Serves `models`, by source the files; a commit is the hash of all of them. What `trouble` names goes wrong.

    trouble: a file's name, or "info" -> a status, "cut" (the connection ends after `cut_after` bytes), "wrong" (other bytes of
    the same length) or "slow".
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.trouble: dict[str, Any] = {}
        self.cut_after = 1 << 20
        self.errors: dict[int, str] = {403: "GatedRepo"}
        self.asked: Counter[str] = Counter()
        self.resumed: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # whoever asked was killed
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def publish(self, source: str, **files: bytes) -> str:
        """A model whose files are named with __ for a dot; its commit."""
        self.models[source] = {name.replace("__", "."): content for name, content in files.items()}
        return self.commit(source)

    def commit(self, source: str) -> str:
        return blob(repr(sorted(self.models[source].items())).encode())

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET(head=True)

            def do_GET(self, *, head: bool = False) -> None:
                if self.path.startswith("/api/models/"):
                    source, _, revision = self.path.removeprefix("/api/models/").partition("/revision/")
                    return self._info(source, revision)
                source, _, rest = self.path[1:].partition("/resolve/")
                revision, _, name = rest.partition("/")
                return self._file(source, revision, name, head)

            def _refuse(self, status: int, code: str = "") -> None:
                self.send_response(status)
                if code := code or hub.errors.get(status, ""):
                    self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _known(self, source: str, revision: str) -> bool:
                if source not in hub.models:
                    self._refuse(404, "RepoNotFound")
                elif revision not in ("", "main", hub.commit(source)):
                    self._refuse(404, "RevisionNotFound")
                else:
                    return True
                return False

            def _info(self, source: str, revision: str) -> None:
                hub.asked["info"] += 1
                if isinstance(status := hub.trouble.get("info"), int):
                    return self._refuse(status)
                if not self._known(source, revision):
                    return None
                siblings = [{"rfilename": name} for name in hub.models[source]]
                about = {"id": source, "sha": hub.commit(source), "siblings": siblings, "cardData": {"license": "mit"}}
                body = json.dumps(about).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return None

            def _file(self, source: str, revision: str, name: str, head: bool) -> None:
                hub.asked[name] += not head
                trouble = hub.trouble.get(name)
                if isinstance(trouble, int):
                    return self._refuse(trouble)
                if not self._known(source, revision):
                    return None
                if name not in hub.models[source]:
                    return self._refuse(404, "EntryNotFound")
                content = hub.models[source][name]
                etag = sha256(content) if name.endswith((".safetensors", ".bin")) else blob(content)
                if trouble == "wrong":
                    content = bytes([content[0] ^ 1]) + content[1:]
                first = 0
                if (wanted := self.headers.get("Range")) and not head:
                    first = int(wanted.removeprefix("bytes=").split("-")[0])
                    hub.resumed.append(name)
                self.send_response(206 if first else 200)
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", hub.commit(source))
                self.send_header("Content-Length", str(len(content) - first))
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if head:
                    return None
                if trouble == "cut":
                    self.wfile.write(content[first : first + hub.cut_after])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return None
                step = 1 << 16 if trouble == "slow" else len(content)
                for start in range(first, len(content), step):
                    self.wfile.write(content[start : start + step])
                    time.sleep(0.02 if trouble == "slow" else 0)
                return None

        return Handler


class Machine:
    """A machine with nothing on it but msfser: `folder` has its caches, its registry and its profile `mini`."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.cache, self.hub_cache = folder / "cache", folder / "hub"
        known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MSFSER_C", "MSFSER_M"))}
        own = {"MSFSER_CACHE": str(self.cache), "HF_HOME": str(folder / "home"), "HF_HUB_CACHE": str(self.hub_cache)}
        self.environment = {**known, **own, "HF_ENDPOINT": address, "COLUMNS": "130"}
        self._models: list[str] = []

    def register(self, name: str, source: str, revision: str, files: dict[str, str]) -> None:
        """One more model, which the profile asks for, too."""
        listed = "\n".join(f'"{file}" = "{digest}"' for file, digest in files.items())
        entry = f'[{name}]\nsource = "{source}"\nrevision = "{revision}"\nlicense = "MIT"\n[{name}.files]\n{listed}\n'
        with (self.data / "registry.toml").open("a") as file:
            file.write(entry)
        self._models.append(name)
        settings = "\n".join(f'x{n}_model = "{model}"' for n, model in enumerate(self._models))
        (self.data / "mini.toml").write_text(f"[embed]\n{settings}\n")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(self.data), *arguments]
        return subprocess.Popen(command, cwd=self.folder, env={**self.environment, **environment}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """What the program says on stderr and stdout; it must exit with `code`."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate()
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return err + out

    def listed(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """What `models list` says, by name."""
        rows = json.loads(self.run("models", "list", "--json", *arguments))
        return {row["name"]: row for row in rows}

    def files(self) -> set[str]:
        """All files of the caches, but what huggingface_hub notes for itself."""
        found = [path for root in (self.cache, self.hub_cache) for path in root.rglob("*") if path.is_file()]
        return {str(p.relative_to(self.folder)) for p in found if ".locks" not in p.parts and p.name != "CACHEDIR.TAG"}

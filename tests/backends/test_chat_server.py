"""The way to a chat server: address, key, proxies and certificates. The rest is tested with the describer that uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.chat_server import MODEL, ChatServer
from msfser_cli.backends.chat_server import connect, in_thread
from msfser_cli.errors import ModelError, UsageError

KEY = "sk-Very/Secret+123"


def listed(address: str) -> list[str] | None:
    return in_thread(connect(address, None, 10).models())


@pytest.mark.parametrize(("content", "mode", "why"), [
    ("", 0o600, "has no key"), (" \n", 0o600, "has no key"), (KEY, 0o644, "chmod 600"), (KEY, 0o602, "chmod 600"),
    (f"{KEY}\nX: y", 0o600, "one line"), ("sch\u00fcssel", 0o600, "one line"), (None, 0, "cannot read the key"),
])  # fmt: skip
def test_a_file_that_holds_no_key(chat_server: ChatServer, tmp_path: Path, content: str | None, mode: int, why: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(UsageError, match=why) as raised:
        connect(chat_server.url, str(file), 1)
    assert KEY not in str(raised.value)


def test_a_pipe_is_no_file_of_a_key(chat_server: ChatServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(UsageError, match="not a regular file"):
        connect(chat_server.url, str(tmp_path / "key"), 1)


@pytest.mark.parametrize("address", [
    "", "localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://u:secret@host/v1", "http://:secret@host/v1",
    "http://host/v1?key=secret", "http://host/v1#secret", "http://[::1/v1", "http://ho st/v1", "http://host/v1\n",
])  # fmt: skip
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="base URL") as raised:
        connect(address, None, 1)
    assert "secret" not in str(raised.value)


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert listed(chat_server.url) == [MODEL]
    monkeypatch.setenv("http_proxy", chat_server.url.removesuffix("/v1"))
    assert listed("http://speech.invalid/v1") == [MODEL]
    assert chat_server.listed == 2
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(UsageError, match="NO_PROXY"):
        listed("http://speech.invalid/v1")


@pytest.mark.process
def test_a_certificate_that_nobody_vouches_for_is_refused(
    chat_server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    made = tmp_path / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", made, "-out", tmp_path / "c.pem",
                    "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)  # fmt: skip
    made.write_text(made.read_text() + (tmp_path / "c.pem").read_text())
    server = ChatServer(certificate=made)
    with pytest.raises(ModelError, match=r"(?i)certificate"):
        listed(server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
    code = f"""
from msfser_cli.backends.chat_server import connect, in_thread
print(in_thread(connect("{server.url}", None, 10).models()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    server.close()
    assert MODEL in done.stdout, done.stderr

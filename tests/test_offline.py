"""The block on the network, which the promise "offline" is tested with, blocks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

OUTSIDE = "192.0.2.1"
"""An address that is never in use (RFC 5737)."""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The block writes here instead, for the test: these attempts are meant."""
    monkeypatch.setenv("MSFSER_TEST_NETWORK_LOG", str(tmp_path / "attempts"))
    return tmp_path / "attempts"


def test_nothing_leaves_this_process(log: Path) -> None:
    for attempt in (
        lambda: socket.create_connection((OUTSIDE, 80)),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (OUTSIDE, 53)),
        lambda: socket.socket().connect_ex((OUTSIDE, 80)),
    ):
        with pytest.raises(OSError, match="the network is blocked"):
            attempt()
    assert len(log.read_text().splitlines()) == 5


@pytest.mark.process
def test_nothing_leaves_a_process_that_a_test_starts(log: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://example.org')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the network is blocked" in done.stderr
    assert "'example.org' in tests/test_offline.py::test_nothing_leaves_a_process" in log.read_text()


def test_loopback_is_open(log: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(("localhost", server.getsockname()[1])):
        assert not log.exists()


def test_the_block_is_on_everywhere(network_log: Path) -> None:
    assert os.environ["MSFSER_TEST_NETWORK_LOG"] == str(network_log)

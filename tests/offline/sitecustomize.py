"""With this folder on PYTHONPATH, a Python process reaches nothing beyond its own machine.

Python imports the module of this name as it starts. While the variable MSFSER_TEST_NETWORK_LOG names a file, each connection and
each look-up of a name, loopback aside, raises OSError and is written there with the test that it happened in.
"""

from __future__ import annotations

import os
import sys
from typing import Any

LOG = "MSFSER_TEST_NETWORK_LOG"
OWN = "MSFSER_TEST_OWN_ADDRESS"
"""This machine's own address, for a test whose processes use it to talk to each other."""
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")
# Audit events of the socket module, and which of their arguments is the host or address.
_WATCHED = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0, "socket.getnameinfo": 0,
}  # fmt: skip


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _WATCHED or not (log := os.environ.get(LOG)):
        return
    target = arguments[_WATCHED[event]]
    # An address is (host, port, ...), a path for a Unix socket, None for a socket that is connected already.
    host = target[0] if isinstance(target, tuple) else target if event.startswith("socket.get") else None
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host and not host.startswith(_LOCAL) and host != os.environ.get(OWN):
        attempt = f"{event} {target!r}"
        with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would slow down the start of every process
            file.write(f"{attempt} in {os.environ.get('PYTEST_CURRENT_TEST', ' '.join(sys.argv))}\n")
        raise OSError(f"the network is blocked: {attempt}")


sys.addaudithook(_refuse)

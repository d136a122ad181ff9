"""What a test needs, and the guard that holds it: a quick test starts no process and imports no library that runs models."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MARKS = {
    "process": "starts a process, or decodes a recording, which msfser does in a process",
    "model": "loads or trains a model, or imports one of the libraries that run them",
    "server": "waits for a server that misbehaves",
    "slow": "takes more than a few seconds, or tries again what another test tries: only with --all",
    "quick": "needs none of these (set by itself)",
}

BY_FIXTURE = {"nursery": "process", "msfser": "process", "program": "process", "chat_server": "server"}
"""Fixtures that start a process or a server, or load a model, and the mark of each test that uses them."""

_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_LIBRARIES = {"transformers", "onnxruntime", "whisperx", "swift_f0"}
_MODELS = {"faster_whisper": "WhisperModel", "onnxruntime": "InferenceSession", "transformers.modeling_utils": "PreTrainedModel"}
"""The classes of models, for libraries that another test has imported already."""

_refused: list[str] | None = None
"""What the quick test that runs now has tried; None while no quick test runs."""


ONE_IN = "one_in(n): if fewer than all trials are made, only the first and every nth of its parameters"


def left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """What `one_in` leaves out."""
    before: Counter[str] = Counter()
    out = set()
    for item in items:
        if chosen := item.get_closest_marker("one_in"):
            test = item.nodeid.partition("[")[0]
            if before[test] % chosen.args[0]:
                out.add(item)
            before[test] += 1
    return out


def mark(item: pytest.Item) -> None:
    """Add the marks that follow from the fixtures of a test; `quick` to one that has no other."""
    for fixture, name in BY_FIXTURE.items():
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(name)
    if not any(item.get_closest_marker(name) for name in MARKS):
        item.add_marker("quick")


@contextmanager
def guarded(item: pytest.Item) -> Iterator[None]:
    """Make a quick test fail that starts a process or loads a model, and say how to mark it."""
    global _refused
    if item.get_closest_marker("quick") is None:
        yield
        return
    _refused = tried = []
    with pytest.MonkeyPatch.context() as patch:
        for library, name in _MODELS.items():
            if library in sys.modules:
                model = getattr(sys.modules[library], name)
                patch.setattr(model, "__init__", lambda *_, name=name, **__: _refuse("model", f"loads a model ({name})"))
        try:
            yield
        finally:
            _refused = None
    if tried:
        pytest.fail(tried[0], pytrace=False)


def _refuse(name: str, what: str) -> None:
    if _refused is not None:
        _refused.append(f"this test {what}: mark it, or its module's `pytestmark`, with pytest.mark.{name}")
        pytest.fail(_refused[-1])


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _refused is None:
        return
    if event in _STARTS:
        _refuse("process", "starts a process")
    elif event == "import" and arguments[0] in _LIBRARIES:
        _refuse("model", f"imports {arguments[0]}")


sys.addaudithook(_hook)

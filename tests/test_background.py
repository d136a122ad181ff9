from __future__ import annotations

import _thread
import threading

import pytest

from msfser_cli import background
from msfser_cli.errors import ResourceError


def test_the_work_is_done_in_another_thread() -> None:
    done, where = threading.Event(), list[int]()
    background.start(lambda: (where.append(threading.get_ident()), done.set()))
    assert done.wait(60)
    assert where != [threading.get_ident()]


def test_a_thread_that_never_lives_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory is so short that it ends before its first line."""
    monkeypatch.setattr(background, "ALIVE_WITHIN_SECONDS", 0.01)
    monkeypatch.setattr(_thread, "start_new_thread", lambda work, arguments: 1)
    with pytest.raises(ResourceError, match="cannot start a thread: not enough memory"):
        background.start(lambda: None)


def test_a_thread_that_the_system_refuses_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: object, arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(ResourceError, match=r"too many processes \(can't start new thread\)"):
        background.start(lambda: None)

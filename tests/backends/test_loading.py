"""One error for a model that cannot be loaded: it names the folder, and says whether the folder or the machine is at fault."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from msfser_cli.backends.loading import loading
from msfser_cli.errors import MissingModelError, ModelError, ResourceError, Stopped

FOLDER = Path("models/some")


@pytest.mark.parametrize("error", [KeyError("weight"), RuntimeError("invalid header"), OSError(errno.ENOENT, "No such file")])
def test_whatever_a_library_raises_is_the_fault_of_the_folder(error: Exception) -> None:
    with pytest.raises(ModelError) as caught, loading(FOLDER, "double cannot load this model"):
        raise error
    message = str(caught.value)
    assert message.startswith("models/some: double cannot load this model: it may be damaged, incomplete or of another kind; ")
    assert message.endswith(f"({type(error).__name__}: {error})")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("error", "said"), [
    (MemoryError(), "models/some: not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."), r"models/some: not enough memory \(CUDA out of memory"),
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "models/some: too many open files"),
])  # fmt: skip
def test_a_machine_that_is_too_small_is_not_the_fault_of_the_folder(error: Exception, said: str) -> None:
    with pytest.raises(ResourceError, match=said), loading(FOLDER, "cannot load this model"):
        raise error


@pytest.mark.parametrize("error", [MissingModelError("say which"), Stopped(15, "SIGTERM")])
def test_what_msfser_says_itself_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, loading(FOLDER, "cannot load this model"):
        raise error
    assert caught.value is error

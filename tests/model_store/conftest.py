"""A machine of the test's own, with a hub beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.small_hub import Hub, Machine


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as serving:
        yield serving


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path / "machine", hub.address)

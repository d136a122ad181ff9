"""A stage on one recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msfser_cli.backends import Row
from msfser_cli.stages.work import Recording, Segment, Work
from msfser_cli.store.audio import Audio


def rows_of(
    stage: Callable[..., None], audio: Audio, rows: Sequence[Row], *arguments: Any, segments: Sequence[Segment] = ()
) -> list[Row]:
    """The rows after `stage(works, *arguments)`. Raises the error of the recording."""
    work = Work(Recording("x", Path("x"), tuple(segments)), audio, [{"channel": None, **row} for row in rows])
    stage([work], *arguments)
    if work.error:
        raise work.error
    return work.rows

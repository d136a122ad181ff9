"""describe: adds a description of the delivery to each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msfser_cli.backends import Describer, Row

if TYPE_CHECKING:
    from msfser_cli.store.audio import Audio


def describe(audio: Audio, rows: Sequence[Row], describer: Describer) -> list[Row]:
    """The utterances of one recording, with the columns of `schemas.DESCRIBE`."""
    return [{**row, **described} for row, described in zip(rows, describer.describe(audio, rows), strict=True)]

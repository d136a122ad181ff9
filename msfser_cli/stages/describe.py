"""describe: adds a description of the delivery to each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msfser_cli import schemas
from msfser_cli.backends import Describer, Row

if TYPE_CHECKING:
    from msfser_cli.store.audio import Audio

_COLUMNS = schemas.names(schemas.DESCRIBE)


def describe(audio: Audio, rows: Sequence[Row], describer: Describer) -> list[Row]:
    """The utterances of one recording, with the columns of `schemas.DESCRIBE`."""
    described = describer.describe(audio, rows)
    return [{**row, **{name: result[name] for name in _COLUMNS}} for row, result in zip(rows, described, strict=True)]

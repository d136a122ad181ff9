"""Whose utterances belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msfser_cli.backends import Row

_NUMBERED = re.compile(r"CHANNEL_\d+(_SPEAKER_\d+)?|SPEAKER_\d+")
"""Names that msfser gives speakers. It numbers them anew in each recording."""


def together(rows: Sequence[Row]) -> list[list[int]]:
    """The indices of one recording's rows by speaker. Rows without a speaker count as one speaker."""
    of_speaker: dict[str | None, list[int]] = {}
    for i, row in enumerate(rows):
        of_speaker.setdefault(row.get("speaker"), []).append(i)
    return list(of_speaker.values())


def is_named(speaker: str | None) -> bool:
    """Whether the speaker's name is the same in all recordings."""
    return speaker is not None and speaker.lower() not in ("", "unknown") and not _NUMBERED.fullmatch(speaker)

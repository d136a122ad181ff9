"""Whose utterances belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msfser_cli.backends import Row

_NUMBERED = re.compile(r"CHANNEL_\d+(_SPEAKER_\d+)?|SPEAKER_\d+")
"""Names that msfser gives speakers. It numbers them anew in each recording."""


def together(rows: Sequence[Row]) -> list[list[int]]:
    """The indices of one recording's rows by speaker. Rows of unknown speakers count as those of one."""
    of_speaker: dict[str | None, list[int]] = {}
    for i, row in enumerate(rows):
        speaker = row.get("speaker")
        of_speaker.setdefault(None if is_unknown(speaker) else speaker, []).append(i)
    return list(of_speaker.values())


def is_unknown(speaker: str | None) -> bool:
    """Whether this is the name of no one."""
    return speaker is None or speaker.lower() in ("", "unknown")


def is_named(speaker: str | None) -> bool:
    """Whether the speaker's name is the same in all recordings."""
    return speaker is not None and not is_unknown(speaker) and not _NUMBERED.fullmatch(speaker)

"""Praat's TextGrid: for each speaker a tier of utterances, and tiers of words, emphasis, description and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from praatio.utilities import textgrid_io

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording
from msfser_cli.exports.tiers import Interval, milliseconds, tiers


def _textgrid(recording: Recording) -> dict[str, str]:
    """The tiers are named `SPEAKER - utterances`, `SPEAKER - words` and so on."""
    rows = []
    for tier in tiers(recording):
        rows.append((f"{tier.name} - utterances", [within.utterance for within in tier.content]))
        for layer in tier.layers():
            rows.append((f"{tier.name} - {layer}", [i for within in tier.content for i in within.layers.get(layer, ())]))
    end = max([milliseconds(recording.end), *(intervals[-1].end for _, intervals in rows)])
    content = {"xmin": 0.0, "xmax": end / 1000, "tiers": [_tier(name, intervals, end) for name, intervals in rows]}
    return {".TextGrid": textgrid_io.getTextgridAsStr(content, "long_textgrid", includeBlankSpaces=True)}


def _tier(name: str, intervals: Sequence[Interval], end: int) -> dict[str, Any]:
    entries = [(i.start / 1000, i.end / 1000, i.label) for i in intervals]
    return {"class": "IntervalTier", "name": name, "xmin": 0.0, "xmax": end / 1000, "entries": entries}


FORMATS = {"textgrid": PerRecording((), _textgrid)}

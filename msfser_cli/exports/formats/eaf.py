"""ELAN's annotation format: for each speaker a tier of utterances, with words, emphasis, description and scores below it."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from pympi.Elan import Eaf, to_string

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording
from msfser_cli.exports.tiers import Interval, Tier, tiers
from msfser_cli.schemas import DIMENSIONS

_OF_THE_WHOLE = ("description", *DIMENSIONS)
"""The layers with one value for each utterance. ELAN keeps such a value with its utterance when that is moved."""


def _eaf(recording: Recording) -> dict[str, str]:
    eaf = Eaf(author="msfser")
    eaf.adocument["DATE"] = "1970-01-01T00:00:00+00:00"  # so that the same table gives the same bytes
    eaf.header = {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    eaf.remove_tier("default")
    eaf.linguistic_types.clear()
    eaf.add_linguistic_type("utterances")
    eaf.add_linguistic_type("parts", "Included_In")
    eaf.add_linguistic_type("values", "Symbolic_Association", timealignable=False)
    if recording.path is not None:
        address = recording.path.absolute().as_uri() if isinstance(recording.path, Path) else str(recording.path)
        eaf.add_linked_file(address, mimetype=mimetypes.guess_type(recording.id)[0] or "audio/x-wav")
    for tier in tiers(recording):
        _add(eaf, tier)
    return {".eaf": to_string(eaf, encoding="utf-8").decode()}


def _add(eaf: Eaf, tier: Tier) -> None:
    """Add the tier and its layers. pympi's own methods for it search all annotations of the tier each time."""
    name = _free(eaf, tier.name)
    eaf.add_tier(name, "utterances", part=tier.speaker)
    names = {}
    for layer in tier.layers():
        names[layer] = _free(eaf, f"{name} - {layer}")
        eaf.add_tier(names[layer], "values" if layer in _OF_THE_WHOLE else "parts", parent=name, part=tier.speaker)
    for within in tier.content:
        utterance = _aligned(eaf, name, within.utterance)
        for layer, of_layer in names.items():
            for interval in within.layers.get(layer, ()):
                if layer in _OF_THE_WHOLE:
                    eaf.tiers[of_layer][1][eaf.generate_annotation_id()] = (utterance, interval.label, None, None)
                else:
                    _aligned(eaf, of_layer, interval)


def _free(eaf: Eaf, name: str) -> str:
    """The name, with a number if a tier has it: a speaker may be called `A - words`."""
    numbered = (name, *(f"{name} ({number})" for number in range(2, len(eaf.tiers) + 3)))
    return next(n for n in numbered if n not in eaf.tiers)


def _aligned(eaf: Eaf, name: str, interval: Interval) -> str:
    """Add an annotation with times of its own to the tier `name`. Returns its id."""
    eaf.add_annotation(name, interval.start, interval.end, interval.label)
    return str(next(reversed(eaf.tiers[name][0])))


FORMATS = {"eaf": PerRecording((), _eaf)}

"""Which column means what, by the names that tools give them.

Names are compared without case, blanks and punctuation: `File Name` is `file_name` is `FileName`. A name may bear a unit, and
words that add nothing: `start_ms`, `Begin Time (s)`, `segment_end`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msfser_cli.stages.tabular.times import UNITS

Tiers = tuple[tuple[str, ...], ...]
"""The names of a role: a later tier counts only where no earlier one has a match."""

PATHS = ("path", "filepath", "audiofilepath", "audiopath", "wavpath", "file", "audiofile", "wavfile", "soundfile", "mediafile",
         "filename", "wavfilename", "wav", "audio", "recording")  # fmt: skip
"""What tools call the column of files: NeMo `audio_filepath`, audformat `file`."""

RECORDING_NAMES = frozenset(("recordingid", *PATHS, "name", "id", "utteranceid", "utterance", "uttid", "segmentid"))
"""Every name that may be a recording's."""

SPEAKER: Tiers = (("speakerid", "spkrid", "spkid"), ("speaker", "spkr", "spk"), ("actor",))
LANGUAGE: Tiers = (("language", "lang"), ("languagecode", "langcode", "languageid", "langid", "locale"))
TEXT: Tiers = (("text",), ("transcript", "transcription", "sentence"))

_START, _END = ("start", "starts", "begin", "begins", "onset", "tmin", "xmin"), ("end", "ends", "stop", "tmax", "xmax", "finish")
_DURATION = ("duration", "dur", "length", "len")
_KINDS = {"offset": "offset"} | dict.fromkeys(_START, "start") | dict.fromkeys(_END, "end") | dict.fromkeys(_DURATION, "duration")
_PART = "seg(?:ment)?|utt(?:erance)?|turn|chunk|clip|audio"
_TIME = re.compile(
    rf"(?:{_PART})?(?:time|t)?({'|'.join(sorted(_KINDS, key=len, reverse=True))})(?:time|timestamp|at|pos|position|offset)?"
    rf"(?:in)?({'|'.join(sorted(UNITS, key=len, reverse=True))})?"
)
_LIKE_TIME = frozenset((*_KINDS, *UNITS, "time", "times", "timestamp", "timestamps", "from", "to", "minutes"))
_LIKE_TIME_PARTS = re.compile(r"(start|begin|onset|offset|duration|end(time|s?$)).*|.*(time|start|onset|offset|duration)")


@dataclass(frozen=True)
class TimeColumn:
    """The column `index` of times, and the unit of its bare numbers in seconds."""

    index: int
    unit: float


@dataclass(frozen=True)
class TimeColumns:
    """The columns that say where a segment begins and ends; None for what no column says."""

    start: TimeColumn | None = None
    end: TimeColumn | None = None
    duration: TimeColumn | None = None

    @property
    def indexes(self) -> set[int]:
        """The columns' places."""
        return {column.index for column in (self.start, self.end, self.duration) if column is not None}


class Ambiguous(ValueError):  # noqa: N818 - it is a state of the header, which the reader of it turns into an error
    """Columns that cannot be told apart without guessing: what is wrong, and what to do."""

    def __init__(self, problem: str, remedy: str = "rename all but one") -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def key(name: str) -> str:
    """`name` without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def either(names: Iterable[str]) -> str:
    """The names in quotation marks, joined by "or"."""
    return " or ".join(repr(name) for name in names)


def find_role(header: Sequence[str], role: str, tiers: Tiers) -> int | None:
    """The column of a role; Ambiguous where two of one tier may be it."""
    for tier in tiers:
        matches = [index for index, name in enumerate(header) if key(name) in tier]
        if len(matches) > 1:
            raise Ambiguous(f"{either(header[index] for index in matches)} may each be the {role}")
        if matches:
            return matches[0]
    return None


def time_columns(header: Sequence[str]) -> TimeColumns:
    """The columns of times. Ambiguous where two may be the same time, or where `offset` may be a start or an end.

    Beside `onset`, `offset` is where a segment ends. Beside a duration or an end, as in NeMo's manifests, it is where one begins.
    """
    found: dict[str, list[TimeColumn]] = {kind: [] for kind in ("start", "end", "duration", "offset")}
    names: dict[str, set[str]] = {kind: set() for kind in found}
    for index, name in enumerate(header):
        if match := _TIME.fullmatch(key(name)):
            kind = _KINDS[match[1]]
            found[kind].append(TimeColumn(index, UNITS[match[2]] if match[2] else 1.0))
            names[kind].add(match[1])
    _place_offset(header, found, names)
    for kind, columns in found.items():
        if len(columns) > 1:
            raise Ambiguous(f"{either(header[column.index] for column in columns)} may each be the {kind}")
    start, end, duration = (next(iter(found[kind]), None) for kind in ("start", "end", "duration"))
    return TimeColumns(start, end, duration)


def _place_offset(header: Sequence[str], found: dict[str, list[TimeColumn]], names: Mapping[str, Collection[str]]) -> None:
    offsets = found.pop("offset")
    if not offsets:
        return
    if "onset" in names["start"] and not found["end"]:
        found["end"] = offsets
    elif not found["start"] and (found["duration"] or found["end"]):
        found["start"] = offsets
    elif not (found["start"] and (found["end"] or found["duration"])):
        raise Ambiguous(f"{header[offsets[0].index]!r} may be where a segment begins or where it ends",
                        "rename it to start or to end")


def is_like_time(name: str) -> bool:
    """Whether the name of a column speaks of a time or a length."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    return bool(_LIKE_TIME & set(words) or _LIKE_TIME_PARTS.fullmatch(key(name)))

"""Finds the meaning of columns by the names that common tools use.

Names are compared without case, blanks and punctuation: `File Name`, `file_name` and `FileName` are the same. A name may have a
unit and filler words: `start_ms`, `Begin Time (s)`, `segment_end`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from msfser_cli.tabular.times import UNITS

Tiers = tuple[tuple[str, ...], ...]
"""The names of a role. A later tier is used only if no earlier tier has a match."""

PATHS = ("path", "filepath", "audiofilepath", "audiopath", "wavpath", "file", "audiofile", "wavfile", "soundfile", "mediafile",
         "filename", "wavfilename", "wav", "audio", "recording")  # fmt: skip
"""Names for the column of files, such as NeMo's `audio_filepath` and audformat's `file`."""

RECORDING_NAMES = frozenset(("recordingid", *PATHS, "name", "id", "utteranceid", "utterance", "uttid", "segmentid"))
"""All names for a column of recordings."""

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
_LIKE_TIME_NAMES = frozenset((
    "in", "out", "t0", "t1", "t2", "von", "bis", "anfang", "ende", "dauer", "début", "debut", "fin", "durée", "duree",
    "inicio", "final", "duración", "duracion", "inizio", "fine", "durata",
))  # fmt: skip
"""Whole names: some of these words mean something else within a longer name."""
_LIKE_TIME_PARTS = re.compile(r"(start|begin|onset|offset|duration|end(time|s?$)).*|.*(time|start|onset|offset|duration)")


@dataclass(frozen=True)
class TimeColumn:
    """A column of times. unit: the unit of numbers without a unit, in seconds."""

    index: int
    unit: float


@dataclass(frozen=True)
class TimeColumns:
    """The columns with the times of a segment; None if no column has them."""

    start: TimeColumn | None = None
    end: TimeColumn | None = None
    duration: TimeColumn | None = None

    @property
    def indexes(self) -> set[int]:
        """The indexes of the columns."""
        return {column.index for column in (self.start, self.end, self.duration) if column is not None}


class Ambiguous(ValueError):  # noqa: N818 - a state of the header; the reader turns it into an error
    """Two columns may have the same meaning. `problem` says what is wrong, `remedy` what to do."""

    def __init__(self, problem: str, remedy: str = "rename all but one") -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def key(name: str) -> str:
    """`name` without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def ambiguity(names: Sequence[str], role: str) -> str:
    """The message for several columns that could have one role."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 1:
        return f"{len(names)} columns are called {distinct[0]!r}"
    return f"{' or '.join(map(repr, distinct))} may each be the {role}"


def find_role(header: Sequence[str], role: str, tiers: Tiers) -> int | None:
    """The index of the column with this role, or None. Raises Ambiguous if two columns of one tier match."""
    for tier in tiers:
        matches = [index for index, name in enumerate(header) if key(name) in tier]
        if len(matches) > 1:
            raise Ambiguous(ambiguity([header[index] for index in matches], role))
        if matches:
            return matches[0]
    return None


def time_columns(header: Sequence[str]) -> TimeColumns:
    """The columns of times. Raises Ambiguous if two columns may be the same time, or `offset` may be a start or an end.

    With `onset`, `offset` is the end of a segment. With a duration or an end, as in NeMo's manifests, it is the start.
    """
    columns_of: dict[str, list[TimeColumn]] = {kind: [] for kind in ("start", "end", "duration", "offset")}
    names: dict[str, set[str]] = {kind: set() for kind in columns_of}
    for index, name in enumerate(header):
        if match := _TIME.fullmatch(key(name)):
            kind = _KINDS[match[1]]
            columns_of[kind].append(TimeColumn(index, UNITS[match[2]] if match[2] else 1.0))
            names[kind].add(match[1])
    _assign_offset(header, columns_of, names)
    for kind, columns in columns_of.items():
        if len(columns) > 1:
            raise Ambiguous(ambiguity([header[column.index] for column in columns], kind))
    start, end, duration = (next(iter(columns_of[kind]), None) for kind in ("start", "end", "duration"))
    return TimeColumns(start, end, duration)


def _assign_offset(header: Sequence[str], columns_of: dict[str, list[TimeColumn]], names: Mapping[str, Collection[str]]) -> None:
    """Move the columns called `offset` to the starts or the ends."""
    offsets = columns_of.pop("offset")
    if not offsets:
        return
    if "onset" in names["start"] and not columns_of["end"]:
        columns_of["end"] = offsets
    elif not columns_of["start"] and (columns_of["duration"] or columns_of["end"]):
        columns_of["start"] = offsets
    elif not (columns_of["start"] and (columns_of["end"] or columns_of["duration"])):
        raise Ambiguous(f"{header[offsets[0].index]!r} may be the start or the end of a segment",
                        "rename it to start or to end")


def is_like_time(name: str) -> bool:
    """Whether the name of a column suggests a time or a duration."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    return bool(_LIKE_TIME & set(words) or key(name) in _LIKE_TIME_NAMES or _LIKE_TIME_PARTS.fullmatch(key(name)))

"""A manifest: a table that names recordings and, where it likes, the segments of them that are to be annotated."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msfser_cli.errors import TableError
from msfser_cli.stages import languages
from msfser_cli.stages.on_disk import Elsewhere, Places
from msfser_cli.stages.tabular import Columns, read_columns, roles
from msfser_cli.stages.tabular.roles import TimeColumns
from msfser_cli.stages.transcribe import Segment

logger = logging.getLogger("msfser")

ROUNDED = 0.05
"""Seconds by which a duration may differ from end minus start."""

_EXAMPLES = 3
_SPEAKER: roles.Tiers = (("speaker",), *roles.SPEAKER)


@dataclass(frozen=True)
class Manifest:
    """The recordings that a manifest names, each with its segments, and what a user should know of how it was read.

    segments: the path of a recording -> its segments in the manifest's order; none for a recording that is named as a whole.
    """

    segments: dict[Path, tuple[Segment, ...]]
    notes: tuple[str, ...] = ()


@dataclass
class _Roles:
    """The columns of a manifest by what they mean, and those that mean nothing here."""

    path: int
    times: TimeColumns
    text: int | None
    speaker: int | None
    language: int | None
    unused: list[int] = field(default_factory=list)


def read_manifest(path: Path, folder: Path) -> Manifest:
    """The recordings of the manifest at `path`, whose paths are relative to `folder`.

    TableError, with the row, for what cannot be read without guessing: columns or values that look like times and are not
    understood, a recording that is named twice without times, a language that is none, an address on the network.
    """
    columns = read_columns(path)
    try:
        found = _roles(columns)
    except roles.Ambiguous as error:
        columns.refuse(error.problem, error.remedy)
    if not columns.rows:
        columns.refuse("the manifest has no rows", "name a recording in each row")
    segments = _segments(columns, found)
    paths, respelled = _paths(columns, found.path, folder)
    recordings: dict[Path, list[Segment]] = {}
    for place, segment in zip(paths, segments, strict=True):
        recordings.setdefault(place, []).append(segment)
    _require_told_apart(columns, found, recordings)
    _warn_of_repeats(columns, recordings)
    whole = {place: () if _is_whole(of_one) else tuple(of_one) for place, of_one in recordings.items()}
    return Manifest(whole, (*_account(columns, found), *respelled))


def _roles(columns: Columns) -> _Roles:
    header = columns.header
    keys = [roles.key(name) for name in header]
    names = (*roles.PATHS, "recordingid")
    path = next((keys.index(name) for name in names if name in keys), None)
    if path is None:
        raise roles.Ambiguous(f"the manifest has no path column (its columns are {columns.shown()})",
                              "name one of them path, file, audio_filepath or recording_id")
    if keys.count(keys[path]) > 1:
        raise roles.Ambiguous(f"{roles.either(name for name in header if roles.key(name) == keys[path])} may each be the path")
    times = roles.time_columns(header)
    text, speaker, language = (roles.find_role(header, role, tiers) for role, tiers in (
        ("text", roles.TEXT), ("speaker", _SPEAKER), ("language", roles.LANGUAGE)))
    used = {path, text, speaker, language, *times.indexes}
    return _Roles(path, times, text, speaker, language, [index for index in range(len(header)) if index not in used])


def _segments(columns: Columns, found: _Roles) -> list[Segment]:
    starts, ends = _times(columns, found)
    none: list[str | None] = [None] * len(columns.rows)
    texts = none if found.text is None else [(text and text.strip()) or None for text in columns.written(found.text)]
    speakers = none if found.speaker is None else columns.texts(found.speaker)
    codes = none if found.language is None else _languages(columns, found.language)
    segments = []
    for place, (start, end, text, speaker, code) in enumerate(zip(starts, ends, texts, speakers, codes, strict=True)):
        if end is not None and end <= (start or 0.0):
            columns.refuse(f"{columns.where(place)}: it ends at {end:g} s, before it starts")
        segments.append(Segment(start, end, text, speaker, code, place=columns.where(place)))
    return segments


def _times(columns: Columns, found: _Roles) -> tuple[list[float | None], list[float | None]]:
    """Where each row's segment begins and ends, in seconds; None where its recording does."""
    times = found.times
    none: list[float | None] = [None] * len(columns.rows)
    if times.start is None or (times.end is None and times.duration is None):
        _refuse_unknown_times(columns, found)
    start, end, duration = (none if column is None else columns.seconds(column.index, column.unit)
                            for column in (times.start, times.end, times.duration))
    if times.duration is None:
        return start, end
    if times.start is None:
        if times.end is None:
            found.unused.append(times.duration.index)  # it is the length of the whole recording
            return start, end
        return [None if e is None or d is None else max(0.0, round(e - d, 6)) for e, d in zip(end, duration, strict=True)], end
    added = [None if s is None or d is None else round(s + d, 6) for s, d in zip(start, duration, strict=True)]
    if times.end is None:
        return start, added
    if any(a is not None and e is not None and abs(a - e) > ROUNDED for a, e in zip(added, end, strict=True)):
        found.unused.append(times.duration.index)  # it is another length, such as the recording's
    return start, end


def _refuse_unknown_times(columns: Columns, found: _Roles) -> None:
    """TableError for a column that looks like a time by its name and its values, where times are missing."""
    for index in found.unused:
        if roles.is_like_time(columns.header[index]) and _holds_times(columns, index):
            columns.refuse(f"the column {columns.header[index]!r} looks like a time, and msfser does not know which",
                           "rename it to start, end or duration, or take it out")


def _holds_times(columns: Columns, index: int) -> bool:
    try:
        return any(value is not None for value in columns.seconds(index))
    except TableError:  # they are not times, or lists
        return False


def _languages(columns: Columns, index: int) -> list[str | None]:
    codes: dict[str, str | None] = {}
    texts = columns.texts(index)
    for place, text in enumerate(texts):
        if text is None or text in codes:
            continue
        codes[text] = languages.code_of(text)
        if codes[text] is None and text.casefold() not in languages.UNKNOWN:
            columns.refuse(f"{columns.where(place)} has {text!r} under {columns.header[index]!r}, which is not a language",
                           "write a code such as en, or leave the cell empty to have the language detected")
    return [None if text is None else codes[text] for text in texts]


def _paths(columns: Columns, index: int, folder: Path) -> tuple[list[Path], list[str]]:
    """The path of each row, and a note if some were found under another spelling than the manifest's."""
    places, found = Places(folder), dict[str, Path]()
    # A recording id may come without the extension, as in lhotse's supervisions; a path does not.
    bare = roles.key(columns.header[index]) in ("recordingid", "recording")
    names = columns.written(index)
    for place, name in enumerate(names):
        if name is None or not name.strip():
            columns.refuse(f"{columns.where(place)} has no {columns.header[index]}")
        if name not in found:
            try:
                found[name] = places.find(name, without_extension=bare)
            except Elsewhere:
                columns.refuse(f"{columns.where(place)} has {name!r} under {columns.header[index]!r}, which is not a file",
                               "download it, and name the file")
    respelled = [name for name, path in found.items() if path != places.below(name)]
    note = [f"{columns.path}: paths that are spelled differently on disk: {len(respelled)}, such as {respelled[0]!r} for "
            f"{str(found[respelled[0]])!r}"] if respelled else []
    return [found[name] for name in names if name is not None], note


def _is_whole(segments: Sequence[Segment]) -> bool:
    return len(segments) == 1 and segments[0] == Segment()


def _has_times(segment: Segment) -> bool:
    return segment.start is not None or segment.end is not None


def _require_told_apart(columns: Columns, found: _Roles, recordings: dict[Path, list[Segment]]) -> None:
    for path, segments in recordings.items():
        whole = [segment for segment in segments if not _has_times(segment)]
        if len(whole) > 1:
            unused = f"; columns not used: {columns.shown(found.unused)}" if found.unused else ""
            columns.refuse(f"{path.name} is named twice and without times ({whole[0].place}, {whole[1].place}){unused}",
                           "name each recording once, or give the segments a start and an end")


def _warn_of_repeats(columns: Columns, recordings: dict[Path, list[Segment]]) -> None:
    """Warn of rows that repeat another, or lie within another of the same speaker."""
    repeated: list[tuple[Segment, Segment]] = []
    within: list[tuple[Segment, Segment]] = []
    for segments in recordings.values():
        by_speaker: dict[str | None, list[Segment]] = {}
        everyone = any(not _has_times(segment) for segment in segments)  # the whole recording holds whoever speaks in it
        for segment in segments:
            by_speaker.setdefault(None if everyone else segment.speaker, []).append(segment)
        for of_one in by_speaker.values():
            longest = None
            for segment in sorted(of_one, key=lambda s: (_span(s)[0], -_span(s)[1])):
                if longest is not None and _span(segment) == _span(longest):
                    repeated.append((longest, segment))
                elif longest is not None and _span(segment)[1] <= _span(longest)[1]:
                    within.append((longest, segment))
                else:
                    longest = segment
    for pairs, what in ((repeated, "repeat another"), (within, "lie within another")):
        if pairs:
            examples = ", ".join(f"{one.place} and {other.place}" for one, other in pairs[:_EXAMPLES])
            more = " ..." if len(pairs) > _EXAMPLES else ""
            logger.warning("%s: rows that %s: %d (%s%s); each is annotated", columns.path, what, len(pairs), examples, more)


def _span(segment: Segment) -> tuple[float, float]:
    return segment.start or 0.0, math.inf if segment.end is None else segment.end


def _account(columns: Columns, found: _Roles) -> Iterable[str]:
    """What the columns mean, where their names do not say it, and which were not used."""
    header, times = columns.header, found.times
    read: dict[str, list[int | None]] = {
        "path": [found.path], "text": [found.text], "speaker": [found.speaker], "language": [found.language],
    }  # fmt: skip
    start, end, duration = (None if c is None else c.index for c in (times.start, times.end, times.duration))
    read["start"] = [end, duration] if start is None and None not in (end, duration) else [start]
    read["end"] = [start, duration] if end is None and None not in (start, duration) else [end]
    renamed = []
    for role, indexes in read.items():
        names = [header[index] for index in indexes if index is not None]
        if names and [roles.key(name) for name in names] != [role]:
            renamed.append(f"the {role} is {(' - ' if role == 'start' else ' + ').join(map(repr, names))}")
    if renamed:
        yield f"{columns.path}: {', '.join(renamed)}"
    if duration in found.unused and start is None and duration is not None:
        yield f"{columns.path}: {header[duration]!r} without a start is not used; recordings are read as a whole"
    if found.unused:
        yield f"{columns.path}: columns not used: {columns.shown(found.unused)}"

"""A manifest: a table that names recordings and, if you wish, the segments of them to annotate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msfser_cli import languages
from msfser_cli.errors import TableError
from msfser_cli.runs.on_disk import Elsewhere, Places
from msfser_cli.stages.overlaps import notes_on_overlaps
from msfser_cli.stages.work import Segment
from msfser_cli.tabular import Columns, read_columns, roles
from msfser_cli.tabular.roles import TimeColumns

ROUNDED = 0.05
"""Seconds by which a duration may differ from end minus start."""

_SPEAKER: roles.Tiers = (("speaker",), *roles.SPEAKER)


@dataclass(frozen=True)
class Manifest:
    """The recordings that a manifest names.

    segments: the path of a recording -> its segments in the manifest's order; empty for a recording without times or text.
    notes: sentences for the user on how the manifest was read.
    """

    segments: dict[Path, tuple[Segment, ...]]
    notes: tuple[str, ...] = ()


@dataclass
class _Roles:
    """The columns of a manifest by their meaning. `unused`: the columns that msfser does not use."""

    path: int
    times: TimeColumns
    text: int | None
    speaker: int | None
    language: int | None
    unused: list[int] = field(default_factory=list)


def read_manifest(path: Path, folder: Path) -> Manifest:
    """The recordings of the manifest at `path`. Its paths are relative to `folder`, or else to the manifest.

    Raises TableError, with the row, if msfser would have to guess: a column that looks like a time but has an unknown name, a
    value that is not a time, a recording named twice without times, an unknown language, a network address.
    """
    columns = read_columns(path)
    try:
        meanings = _roles(columns)
    except roles.Ambiguous as error:
        columns.refuse(error.problem, error.remedy)
    if not columns.rows:
        columns.refuse("the manifest has no rows", "name a recording in each row")
    paths, respelled = _paths(columns, meanings.path, folder)
    recordings: dict[Path, list[Segment]] = {}
    for recording, segment in zip(paths, _segments(columns, meanings), strict=True):
        recordings.setdefault(recording, []).append(segment)
    _refuse_repeated_recordings(columns, meanings, recordings)
    overlaps = [f"{path}: {note}" for note in notes_on_overlaps(recordings.values())]
    by_recording = {recording: () if _is_whole(segments) else tuple(segments) for recording, segments in recordings.items()}
    return Manifest(by_recording, (*_account(columns, meanings), *respelled, *overlaps))


def _roles(columns: Columns) -> _Roles:
    header = columns.header
    keys = [roles.key(name) for name in header]
    names = (*roles.PATHS, "recordingid")
    path = next((keys.index(name) for name in names if name in keys), None)
    if path is None:
        raise roles.Ambiguous(f"the manifest has no path column (its columns are {columns.shown()})",
                              "rename the column of paths to path")
    if keys.count(keys[path]) > 1:
        raise roles.Ambiguous(roles.ambiguity([name for name in header if roles.key(name) == keys[path]], "path"))
    times = roles.time_columns(header)
    text, speaker, language = (roles.find_role(header, role, tiers) for role, tiers in (
        ("text", roles.TEXT), ("speaker", _SPEAKER), ("language", roles.LANGUAGE)))
    used = {path, text, speaker, language, *times.indexes}
    return _Roles(path, times, text, speaker, language, [index for index in range(len(header)) if index not in used])


def _segments(columns: Columns, meanings: _Roles) -> list[Segment]:
    """The segment of each row."""
    starts, ends = _times(columns, meanings)
    empty: list[str | None] = [None] * len(columns.rows)
    texts = empty if meanings.text is None else [(text and text.strip()) or None for text in columns.written(meanings.text)]
    speakers = empty if meanings.speaker is None else columns.texts(meanings.speaker)
    codes = empty if meanings.language is None else _languages(columns, meanings.language)
    segments = []
    for place, (start, end, text, speaker, code) in enumerate(zip(starts, ends, texts, speakers, codes, strict=True)):
        if end is not None and end <= (start or 0.0):
            columns.refuse(f"{columns.where(place)}: the segment ends at {end:g} s, not after its start", "correct its times")
        segments.append(Segment(start, end, text, speaker, code, place=columns.where(place)))
    return segments


def _times(columns: Columns, meanings: _Roles) -> tuple[list[float | None], list[float | None]]:
    """The start and end of each row's segment in seconds; None: the start or end of the recording."""
    times = meanings.times
    empty: list[float | None] = [None] * len(columns.rows)
    if times.start is None or (times.end is None and times.duration is None):
        _refuse_unknown_times(columns, meanings)
    start, end, duration = (empty if column is None else columns.seconds(column.index, column.unit)
                            for column in (times.start, times.end, times.duration))
    if times.duration is None:
        return start, end
    if times.start is None:
        if times.end is None:
            meanings.unused.append(times.duration.index)  # the length of the whole recording
            return start, end
        return [None if e is None or d is None else max(0.0, round(e - d, 6)) for e, d in zip(end, duration, strict=True)], end
    added = [None if s is None or d is None else round(s + d, 6) for s, d in zip(start, duration, strict=True)]
    if times.end is None:
        return start, added
    if any(a is not None and e is not None and abs(a - e) > ROUNDED for a, e in zip(added, end, strict=True)):
        meanings.unused.append(times.duration.index)  # another length, such as the recording's
    return start, end


def _refuse_unknown_times(columns: Columns, meanings: _Roles) -> None:
    """Raise TableError if an unused column looks like a time by its name and its values."""
    for index in meanings.unused:
        if roles.is_like_time(columns.header[index]) and _holds_times(columns, index):
            columns.refuse(f"the column {columns.header[index]!r} looks like a time, but msfser does not know which one",
                           "rename it to start, end or duration, or remove it")


def _holds_times(columns: Columns, index: int) -> bool:
    try:
        return any(value is not None for value in columns.seconds(index))
    except TableError:  # the values are not times
        return False


def _languages(columns: Columns, index: int) -> list[str | None]:
    """The language code of each row; None: detect it. Raises TableError for text that is not a language."""
    codes: dict[str, str | None] = {}
    texts = columns.texts(index)
    for place, text in enumerate(texts):
        if text is None or text in codes:
            continue
        codes[text] = languages.code_of(text)
        if codes[text] is None and text.casefold() not in languages.UNKNOWN:
            columns.refuse(f"{columns.where(place)} has {text!r} under {columns.header[index]!r}, which is not a language",
                           "write a code such as en, or leave the cell empty to detect the language")
    return [None if text is None else codes[text] for text in texts]


def _paths(columns: Columns, index: int, folder: Path) -> tuple[list[Path], list[str]]:
    """The path of each row, and a note if files have another spelling on disk than in the manifest."""
    places, path_of = Places(folder), dict[str, Path]()
    beside = Places(columns.path.parent)
    # Recording ids may lack the extension, as in lhotse's supervisions. Paths have it.
    bare = roles.key(columns.header[index]) in ("recordingid", "recording")
    names = columns.written(index)
    for place, name in enumerate(names):
        if name is None or not name.strip():
            columns.refuse(f"{columns.where(place)} has no {columns.header[index]}", "name a recording in each row")
        if name not in path_of:
            try:
                path = places.find(name, without_extension=bare)
                if not os.path.lexists(path) and os.path.lexists(other := beside.find(name, without_extension=bare)):
                    path = other
                path_of[name] = path
            except Elsewhere:
                columns.refuse(f"{columns.where(place)} has {name!r} under {columns.header[index]!r}, which is a network address",
                               "download the file and write its path")
    respelled = [name for name, path in path_of.items() if path not in (places.below(name), beside.below(name))]
    note = [f"{columns.path}: paths that are spelled differently on disk: {len(respelled)}, such as {respelled[0]!r} for "
            f"{str(path_of[respelled[0]])!r}"] if respelled else []
    return [path_of[name] for name in names if name is not None], note


def _is_whole(segments: Sequence[Segment]) -> bool:
    return len(segments) == 1 and segments[0] == Segment()


def _refuse_repeated_recordings(columns: Columns, meanings: _Roles, recordings: dict[Path, list[Segment]]) -> None:
    """Raise TableError if a recording is named twice without times."""
    for path, segments in recordings.items():
        whole = [segment for segment in segments if not segment.has_times]
        if len(whole) > 1:
            unused = f"; columns not used: {columns.shown(meanings.unused)}" if meanings.unused else ""
            columns.refuse(f"{path.name} is named twice without times ({whole[0].place}, {whole[1].place}){unused}",
                           "name each recording once, or give the segments a start and an end")


def _account(columns: Columns, meanings: _Roles) -> Iterable[str]:
    """Sentences on how the columns were understood, and which columns are not used."""
    header, times = columns.header, meanings.times
    read: dict[str, list[int | None]] = {
        "path": [meanings.path], "text": [meanings.text], "speaker": [meanings.speaker], "language": [meanings.language],
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
    unused = [index for index in meanings.unused if header[index]]
    if duration in unused and start is None and duration is not None:
        unused.remove(duration)
        yield f"{columns.path}: {header[duration]!r} is not used because no column holds a start; whole recordings are read"
    if unused:
        yield f"{columns.path}: columns not used: {columns.shown(unused)}"

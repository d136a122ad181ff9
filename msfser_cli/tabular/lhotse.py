"""Turns the nested objects of lhotse's manifests (recordings, supervisions and cuts) into flat rows.

A supervision is already flat: `recording_id`, `start`, `duration`. A cut holds its recording and its supervisions. Their times
count from the start of the cut. A recording holds the files of its channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]


def is_nested(entry: object) -> bool:
    """Whether `entry` is a lhotse cut or recording."""
    return isinstance(entry, dict) and (_is_recording(entry) or isinstance(entry.get("recording"), dict) or _is_mix(entry))


def flat_rows(entry: Entry) -> Iterator[Entry]:
    """The row of a recording, or the rows of a cut, one per supervision. Raises ValueError if the recording is not one file."""
    if _is_mix(entry):
        raise ValueError(f"is a lhotse {entry['type']}, which is not part of a single recording; save the supervisions instead")
    if _is_recording(entry):
        yield {"path": _file(entry), "duration": entry.get("duration")}
        return
    start, path = float(entry.get("start") or 0), _file(entry["recording"])
    supervisions = entry.get("supervisions") or [{"start": 0, "duration": entry.get("duration")}]
    for supervision in supervisions:
        if not isinstance(supervision, dict):
            raise ValueError("holds a supervision that is not an object")
        begin = round(start + float(supervision.get("start") or 0), 6)
        names = ("duration", "channel", "text", "speaker", "language", "gender")
        yield {"path": path, "start": begin, **{name: supervision[name] for name in names if supervision.get(name) is not None}}


def _is_recording(entry: Entry) -> bool:
    return isinstance(entry.get("sources"), list)


def _is_mix(entry: Entry) -> bool:
    return entry.get("type") in ("MixedCut", "PaddingCut")


def _file(recording: Entry) -> str:
    sources = recording.get("sources") or []
    if len(sources) != 1 or not isinstance(sources[0], dict) or sources[0].get("type") != "file":
        raise ValueError(f"names the recording {recording.get('id')!r}, which is not a single audio file")
    return str(sources[0].get("source"))

"""Which audio track of a container is heard: its default, and no commentary or description where there is another."""

from __future__ import annotations

import re
from typing import Any

import av
from av.stream import Disposition

from msfser_cli.errors import RecordingError

_BESIDE = (
    Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.descriptions
    | Disposition.karaoke | Disposition.clean_effects | Disposition.dependent
)  # fmt: skip
_BESIDE_BY_NAME = re.compile(
    r"comment(ary|ator)?\b|kommentar|commentaire|comentario|descripti(on|ve)|described|deskription|descripción|descrizione|"
    r"visual(ly)?.impaired|hearing.impaired|hörfilm|\bAD\b|\bDVS\b",
    re.IGNORECASE,
)


def choose(container: av.container.InputContainer, number: int | None) -> tuple[Any, list[str]]:
    """The audio stream to hear, and what to say of it: track `number`, from 0 among the audio streams, or the likeliest.

    RecordingError where there is no audio stream, or none of that number.
    """
    streams = list(container.streams.audio)
    if not streams:
        raise RecordingError("no_audio_stream", f"the container ({container.format.name}) has no audio stream")
    if number is None:
        # of equal ones, the first
        stream = max(streams, key=lambda s: (s.codec_context is not None, not _beside(s), _is(s, Disposition.default)))
    elif number < len(streams):
        stream = streams[number]
    else:
        count = f"{len(streams)} audio tracks, numbered from 0" if len(streams) > 1 else "one audio track, number 0"
        raise RecordingError("no_audio_stream", f"there is no audio track {number}: it has {count}")
    if len(streams) == 1:
        return stream, []
    about = ["default"] if _is(stream, Disposition.default) else []
    about += [stream.metadata[name] for name in ("language", "title") if stream.metadata.get(name, "und") != "und"]
    described = f" ({', '.join(about)})" if about else ""
    return stream, [f"of its {len(streams)} audio tracks, number {streams.index(stream)}{described} was heard"]


def _is(stream: Any, kind: Disposition) -> bool:
    return bool(stream.disposition & kind)


def _beside(stream: Any) -> bool:
    """Whether a track is one that speaks about the programme, or is for those who cannot see or hear it well."""
    names = " ".join(stream.metadata.get(name, "") for name in ("title", "handler_name", "comment"))
    return _is(stream, _BESIDE) or bool(_BESIDE_BY_NAME.search(names))

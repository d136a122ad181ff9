"""Chooses the audio track of a container: its default, and commentary or audio description only if it has no other track."""

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
    """The audio stream to decode, and notes for the user.

    number: its number among the audio streams, from 0; None: the likeliest. Raises RecordingError if there is no such stream.
    """
    streams = list(container.streams.audio)
    if not streams:
        raise RecordingError("no_audio_stream", f"the container ({container.format.name}) has no audio stream")
    if number is None:
        # the first of several that are equal
        stream = max(streams, key=lambda s: (s.codec_context is not None, not _beside(s), _is(s, Disposition.default)))
    elif number < len(streams):
        stream = streams[number]
    else:
        count = f"{len(streams)} audio tracks, numbered from 0" if len(streams) > 1 else "one audio track, number 0"
        raise RecordingError("no_audio_stream", f"there is no audio track {number}: it has {count}; choose with --audio-track")
    if len(streams) == 1:
        return stream, []
    about = ["default"] if _is(stream, Disposition.default) else []
    about += [stream.metadata[name] for name in ("language", "title") if stream.metadata.get(name, "und") != "und"]
    described = f" ({', '.join(about)})" if about else ""
    return stream, [f"msfser used number {streams.index(stream)}{described} of its {len(streams)} audio tracks"]


def _is(stream: Any, kind: Disposition) -> bool:
    return bool(stream.disposition & kind)


def _beside(stream: Any) -> bool:
    """Whether a track accompanies the programme: a commentary, or a version for people who cannot see or hear well."""
    names = " ".join(stream.metadata.get(name, "") for name in ("title", "handler_name", "comment"))
    return _is(stream, _BESIDE) or bool(_BESIDE_BY_NAME.search(names))

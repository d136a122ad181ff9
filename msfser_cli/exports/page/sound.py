"""The sound of a recording's page: where the browser finds it, and its waveform."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from msfser_cli import __version__
from msfser_cli.errors import RecordingError
from msfser_cli.exports.codecs import opus
from msfser_cli.exports.files import MANIFEST, Folder
from msfser_cli.exports.page.page import data_of
from msfser_cli.exports.recordings import Recording, Table
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio

KINDS = ("link", "copy", "embed", "none")
"""The values of --audio."""

_MOST_PEAKS = 500_000
_PEAKS_PER_SECOND = 50.0
_BLOCK = 60 * SAMPLE_RATE_HZ
_EMBEDDED = "data:audio/ogg;base64,"


@dataclass(frozen=True)
class Waveform:
    """The peaks of the sound, from 0 to 255, `per_second` of them for each second."""

    peaks: bytes
    per_second: float


def waveform(audio: Audio) -> Waveform:
    """The highest absolute sample in each part of the recording, relative to the highest of all."""
    per_second = min(_PEAKS_PER_SECOND, _MOST_PEAKS / max(audio.duration, 1.0))
    width = max(1, round(SAMPLE_RATE_HZ / per_second))
    step = _BLOCK // width * width
    parts = [np.zeros(0, np.float32)]
    for first in range(0, len(audio.samples), step):
        samples = np.abs(audio.samples[first : first + step])
        parts.append(np.pad(samples, (0, -len(samples) % width)).reshape(-1, width).max(axis=1))
    peaks = np.concatenate(parts)
    loudest = max(float(peaks.max(initial=0.0)), 1e-6)
    return Waveform(np.round(peaks / loudest * 255).astype(np.uint8).tobytes(), SAMPLE_RATE_HZ / width)


@dataclass(frozen=True)
class Sound:
    """The sound of a page.

    source: the address for the browser; None: the page has no sound. note: a sentence for the reader of the page. copy: what to
    write to `copy_of(page)`; None: nothing. copy_sha256: that of the file of this name; None: the page has none. made_from: what
    the waveform and the copy were made from.
    """

    source: str | None = None
    waveform: Waveform | None = None
    note: str | None = None
    copy: bytes | None = None
    copy_sha256: str | None = None
    made_from: Sequence[Any] = ()

    def data(self) -> dict[str, Any]:
        """What `recording.js` reads, and `_earlier`."""
        peaks, per_second = (self.waveform.peaks, self.waveform.per_second) if self.waveform else (b"", 1)
        return {
            "source": self.source, "note": self.note, "peaks": base64.b64encode(peaks).decode(), "peaks_per_second": per_second,
            "copy_sha256": self.copy_sha256, "made_from": list(self.made_from),
        }  # fmt: skip


def copy_of(page: str) -> str:
    """The name of the copy of the sound for the page of that name."""
    return f"{page.removesuffix('.html')}.opus"


def sound(recording: Recording, table: Table, page: str, folder: Folder, kind: str) -> Sound:
    """The sound for the page `page` in `folder`, by `kind`, one of `KINDS`.

    What an earlier page was made from is not decoded again: an hour takes a processor half a minute.
    """
    if kind == "none":
        return Sound()
    try:
        with table.media(recording.id, folder.path / MANIFEST) as media:
            made_from = [__version__, media.content().sha256, table.audio_track]
            heard = _earlier(folder, page, kind, made_from)
            if heard is None:
                heard = _made(table.decoded(media), page, kind, made_from)
                if changed := media.change():
                    raise changed
    except RecordingError as error:
        return Sound(note=f"The page has no sound. {PurePosixPath(recording.id).name}: {error.detail}.")
    return _linked(heard, recording, folder.path / page) if kind == "link" else heard


def _earlier(folder: Folder, page: str, kind: str, made_from: Sequence[Any]) -> Sound | None:
    """The sound of the page that msfser wrote earlier, if it was made from the same and has all that `kind` needs."""
    data = data_of(folder.path / page, "sound") if folder.has(page) else None
    if data is None or data["made_from"] != made_from:
        return None
    if kind == "embed" and not str(data["source"]).startswith(_EMBEDDED):
        return None
    if kind == "copy" and data["copy_sha256"] != folder.sha256(copy_of(page)):
        return None
    waves = Waveform(base64.b64decode(data["peaks"]), data["peaks_per_second"])
    return Sound(data["source"], waves, copy_sha256=data["copy_sha256"], made_from=made_from)


def _made(audio: Audio, page: str, kind: str, made_from: Sequence[Any]) -> Sound:
    made = partial(Sound, waveform=waveform(audio), made_from=made_from)
    if kind == "link":
        return made()
    encoded = b"".join(opus(audio.samples))
    if kind == "embed":
        return made(_EMBEDDED + base64.b64encode(encoded).decode())
    name = quote(copy_of(page).rpartition("/")[2])
    return made(name, copy=encoded, copy_sha256=hashlib.sha256(encoded).hexdigest())


def _linked(heard: Sound, recording: Recording, page: Path) -> Sound:
    """The sound with a link from the page to the recording itself."""
    if isinstance(recording.path, Path):
        source, note = quote(os.fsencode(os.path.relpath(recording.path, page.parent))), _about_seeking(recording.path)
    else:
        source, note = None, "The page has no sound, because the recording lies in an object store; pass --audio copy."
    return replace(heard, source=source, note=note, copy_sha256=None)


def _about_seeking(path: Path) -> str | None:
    """A warning for an MP3 file that does not say that its bit rate is constant."""
    if path.suffix.lower() != ".mp3":
        return None
    with path.open("rb") as file:
        if b"Info" in file.read(1 << 20):
            return None
    return (
        "Browsers may be seconds off in this MP3 file, because its bit rate is not marked as constant. "
        "msfser report --audio copy makes a copy in which they are not."
    )

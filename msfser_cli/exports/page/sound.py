"""The sound of a recording's page: where the browser finds it, and its waveform."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np

from msfser_cli.errors import RecordingError
from msfser_cli.exports.codecs import opus
from msfser_cli.exports.files import Folder
from msfser_cli.exports.recordings import Recording, Table
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio

KINDS = ("link", "copy", "embed", "none")
"""The values of --audio."""

_MOST_PEAKS = 500_000
_PEAKS_PER_SECOND = 50.0
_BLOCK = 60 * SAMPLE_RATE_HZ


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
    """source: the address for the browser, None without sound. note: a sentence for the reader of the page."""

    source: str | None = None
    waveform: Waveform | None = None
    note: str | None = None


def sound(recording: Recording, table: Table, page: str, folder: Folder, kind: str) -> Sound:
    """The sound for the page `page` in `folder`, by `kind`, one of `KINDS`. A copy is written to the folder."""
    if kind == "none":
        return Sound()
    try:
        audio = table.audio(recording.id)
    except RecordingError as error:
        return Sound(note=f"The page has no sound. {PurePosixPath(recording.id).name}: {error.detail}.")
    wave = waveform(audio)
    if kind == "link":
        if not isinstance(recording.path, Path):
            return Sound(None, wave, "The page has no sound, because the recording lies in an object store; pass --audio copy.")
        address = os.path.relpath(recording.path, (folder.path / page).parent)
        return Sound(quote(os.fsencode(address)), wave, _about_seeking(recording.path))
    if kind == "embed":
        return Sound(f"data:audio/ogg;base64,{base64.b64encode(b''.join(opus(audio.samples))).decode()}", wave)
    name = f"{page.removesuffix('.html')}.opus"
    folder.write(name, opus(audio.samples))
    return Sound(quote(name.rpartition("/")[2]), wave)


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

"""Describers: each module puts the delivery of utterances into words."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples


def pcm(samples: Samples) -> bytes:
    """`samples` [n] as little-endian 16-bit PCM (2 n bytes). Samples beyond full scale are clipped. Reads a minute at a time."""
    step = 60 * SAMPLE_RATE_HZ
    parts = (samples[first : first + step] for first in range(0, len(samples), step))
    return b"".join(np.clip(np.rint(part * 32768.0), -32768, 32767).astype("<i2").tobytes() for part in parts)


def wav(sound: bytes) -> bytes:
    """A WAV file (mono, 16 kHz) with the 16-bit PCM `sound`, for models that take files."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            out.writeframes(sound)
        return file.getvalue()

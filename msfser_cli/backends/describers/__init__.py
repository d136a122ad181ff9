"""Describers: the delivery in words, one a file."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples


def pcm(samples: Samples) -> bytes:
    """`samples` as 16-bit PCM, read a minute at a time; what is beyond full scale is clipped."""
    step = 60 * SAMPLE_RATE_HZ
    parts = (samples[first : first + step] for first in range(0, len(samples), step))
    return b"".join(np.clip(np.rint(part * 32768.0), -32768, 32767).astype("<i2").tobytes() for part in parts)


def wav(sound: bytes) -> bytes:
    """A WAV file of `sound`, which is 16-bit PCM, for a model that takes files."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            out.writeframes(sound)
        return file.getvalue()

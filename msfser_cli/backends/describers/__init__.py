"""Describers: the delivery in words, one a file."""

from __future__ import annotations

import io
import wave

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ


def wav(samples: np.ndarray) -> bytes:
    """`samples` as a WAV file of 16 bits, for a model that takes files; what is beyond full scale is clipped."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            out.writeframes(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())
        return file.getvalue()

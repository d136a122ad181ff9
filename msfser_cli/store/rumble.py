"""Removes the frequencies below any voice from a recording: a constant offset, wind, steps, the hum of machines.

People hardly hear them, but a speech detector, a recogniser and a measure of loudness react to them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

CUTOFF_HZ = 50.0
"""Half of the amplitude passes at this frequency. Above 65 Hz, the lowest voice, all of it passes (to 0.03 dB), and below 35 Hz
at most 0.3 %."""

_HALF = 800
_FFT = 16_384
_STEP = _FFT - 2 * _HALF
_BETA = 4.55  # Kaiser window: 50 dB of attenuation at 15 Hz from the cutoff
_SILENT = 3e-8
"""Half a step of 24 bits. Smaller values are rounding errors, and become 0, so silence stays silent."""


def _response() -> np.ndarray:
    """The transfer function of 1 minus a low-pass, float64 [_FFT / 2 + 1, 1]. It is real, because the filter is symmetric."""
    places = np.arange(-_HALF, _HALF + 1)
    low = np.sinc(2 * CUTOFF_HZ / SAMPLE_RATE_HZ * places) * np.kaiser(len(places), _BETA)
    centred = np.zeros(_FFT)
    centred[places] = -low / low.sum()
    centred[0] += 1
    return np.fft.rfft(centred).real[:, None]


class HighPass:
    """A zero-phase high-pass for a stream of blocks, float32 [n, channels] at 16 kHz. The output is as long as the input."""

    def __init__(self) -> None:
        self._response = _response()
        self._waiting: list[np.ndarray] = []
        self._count = 0
        self._before: np.ndarray | None = None

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Take a block, and yield the finished part of the stream."""
        self._waiting.append(block)
        self._count += len(block)
        while self._count >= _STEP + _HALF:
            held = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
            yield self._filtered(held[:_STEP], held[_STEP : _STEP + _HALF])
            self._waiting, self._count = [held[_STEP:]], len(held) - _STEP

    def flush(self) -> Iterator[np.ndarray]:
        """Yield the rest of the stream, which ends here."""
        if self._count:
            held = np.concatenate(self._waiting)
            for first in range(0, len(held), _STEP):  # at most two
                block, after = held[first : first + _STEP], held[first + _STEP : first + _STEP + _HALF]
                level = held.mean(axis=0, keepdims=True)
                yield self._filtered(block, np.concatenate([after, np.repeat(level, _HALF - len(after), axis=0)]))
        self._waiting, self._count, self._before = [], 0, None

    def _filtered(self, block: np.ndarray, after: np.ndarray) -> np.ndarray:
        if self._before is None:  # before the start, the stream is taken as constant at the mean of its first block
            self._before = np.repeat(block.mean(axis=0, keepdims=True), _HALF, axis=0)
        stretch = np.concatenate([self._before, block, after])
        filtered = np.fft.irfft(np.fft.rfft(stretch, _FFT, axis=0) * self._response, _FFT, axis=0)[_HALF : _HALF + len(block)]
        self._before = stretch[len(block) : len(block) + _HALF]
        filtered[np.abs(filtered) < _SILENT] = 0
        return filtered.astype(np.float32)

"""Level, spectral balance and harmonicity of speech, from its short-time spectrum.

Frames are 25 ms Hann windows, 10 ms apart. Frame i is centred at `i * HOP` seconds. The spectrum is computed block by block, so
memory holds only a few numbers per frame, and not the spectrogram of a long recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.backends.pitch import PitchTrack
    from msfser_cli.store.audio import Audio, Samples

HOP_SAMPLES = 160
HOP = HOP_SAMPLES / SAMPLE_RATE_HZ
_WINDOW = np.hanning(401)[:400]
_FFT = 512
_BLOCK_FRAMES = 3000
# A full-scale square wave has power 1. Below -120 dB is silence. The floor keeps logarithms finite.
FLOOR_DB = -120.0
_FLOOR = 10 ** (FLOOR_DB / 10)


@dataclass(frozen=True)
class Spectrum:
    """Per frame, float64 [frames]: `power` (mean square, 1 = full scale), and the powers `low` (50-1000 Hz) and `high` (1-5 kHz).

    `power` is the squared L2 norm of the frame's short-time Fourier transform up to a constant (Parseval).
    """

    power: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def times(self, frames: slice = slice(None)) -> np.ndarray:
        """The centres of the frames in seconds, float64 [frames in the slice]."""
        return np.arange(*frames.indices(len(self.power))) * HOP

    def frames(self, start: float, end: float) -> slice:
        """The frames whose centres lie in [start, end) seconds, as a slice, which may be empty."""
        first, last = (int(np.ceil(max(t, 0.0) / HOP - 1e-9)) for t in (start, end))
        return slice(first, max(first, last))


def decibels(power: np.ndarray | float) -> np.ndarray:
    """10 log10 of a power, at least `FLOOR_DB`."""
    level: np.ndarray = 10 * np.log10(np.maximum(power, _FLOOR))
    return level


def of(audio: Audio) -> Spectrum:
    """The recording's spectrum. It is computed once and kept with the audio."""
    return audio.derived("spectrum", measure)


def measure(samples: Samples) -> Spectrum:
    """The `Spectrum` of `samples` [n]: n // 160 + 1 frames, or 0 frames for 0 samples."""
    total = len(samples) // HOP_SAMPLES + 1 if len(samples) else 0
    power, low, high = np.zeros(total), np.zeros(total), np.zeros(total)
    bins_hz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)
    is_low = (bins_hz >= 50) & (bins_hz < 1000)
    is_high = (bins_hz >= 1000) & (bins_hz < 5000)
    # For both sides of the spectrum, divided by the window's power: white noise with mean square 1 gets power 1.
    scale = 2 / (_FFT * np.sum(_WINDOW**2))
    half = len(_WINDOW) // 2
    for first in range(0, total, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, total)
        block = _stretch(samples, first * HOP_SAMPLES - half, (last - 1) * HOP_SAMPLES + half)
        windows = np.lib.stride_tricks.sliding_window_view(block, len(_WINDOW))[::HOP_SAMPLES]
        squared = np.abs(np.fft.rfft(windows * _WINDOW, _FFT)) ** 2 * scale
        power[first:last] = squared.sum(axis=1) - (squared[:, 0] + squared[:, -1]) / 2
        low[first:last] = squared[:, is_low].sum(axis=1)
        high[first:last] = squared[:, is_high].sum(axis=1)
    return Spectrum(power, low, high)


def speech(spectrum: Spectrum, track: PitchTrack, start: float, end: float) -> np.ndarray:
    """Which frames between `start` and `end` seconds have sound: bool [frames].

    A frame has sound if it is voiced, or if its level is within 25 dB of the 99th percentile. The 25 dB are those with which
    de Jong & Wempe (2009) find pauses by intensity.
    """
    frames = spectrum.frames(start, end)
    power = spectrum.power[frames]
    if len(power) == 0:
        return np.zeros(0, dtype=bool)
    loudest = float(np.percentile(power, 99))
    if loudest <= _FLOOR:
        return np.zeros(len(power), dtype=bool)
    loud: np.ndarray = power >= loudest * 10**-2.5
    sounding: np.ndarray = loud | track.voiced_at(spectrum.times(frames))
    return sounding


def harmonicity(samples: Samples, track: PitchTrack, start: float, end: float) -> np.ndarray:
    """Harmonics-to-noise ratio, in dB, of the voiced frames between `start` and `end` seconds: float64 [voiced frames], -20..40.

    Boersma (1993): r is the height of the autocorrelation's peak at the pitch period, divided by the window's autocorrelation.
    The ratio is 10 log10(r / (1 - r)). Windows have 64 ms, four periods of the lowest F0.
    """
    first, last, _ = track.frames(start, end).indices(len(track.f0_hz))
    size = 256
    blocks = [i + np.flatnonzero(~np.isnan(track.f0_hz[i : min(i + size, last)])) for i in range(first, last, size)]
    return np.concatenate([np.zeros(0), *(_harmonicity(samples, track, block) for block in blocks if len(block))])


def _harmonicity(samples: Samples, track: PitchTrack, frames: np.ndarray) -> np.ndarray:
    # Lags are in steps of a quarter sample, because the peak of a high voice is narrower than a sample.
    half, fft, finer = 512, 2048, 4
    window = np.hanning(2 * half + 1)[: 2 * half]
    lags = np.arange(half * finer) / finer
    own = np.fft.irfft(np.abs(np.fft.rfft(window, fft)) ** 2, fft * finer)[: len(lags)]
    centres = np.rint(frames * track.hop * SAMPLE_RATE_HZ).astype(int)
    stretch = _stretch(samples, centres[0] - half, centres[-1] + half)
    pieces = stretch[centres[:, None] - centres[0] + np.arange(2 * half)]
    spectra = np.fft.rfft((pieces - pieces.mean(axis=1, keepdims=True)) * window, fft)
    correlation = np.fft.irfft(np.abs(spectra) ** 2, fft * finer)[:, : len(lags)]
    correlation = correlation / np.maximum(correlation[:, :1], np.finfo(float).tiny) * (own[0] / own)
    period = SAMPLE_RATE_HZ / track.f0_hz[frames]
    near_period = np.abs(lags - period[:, None]) <= 0.1 * period[:, None]
    r = np.clip(np.max(np.where(near_period, correlation, 0.0), axis=1), 0.01, 0.9999)
    decibel: np.ndarray = 10 * np.log10(r / (1 - r))
    return decibel


def _stretch(samples: Samples, start: int, end: int) -> np.ndarray:
    """`samples[start:end]` as float64, with zeros beyond the ends."""
    inside = samples[max(start, 0) : max(end, 0)].astype(np.float64)
    return np.pad(inside, (max(-start, 0), end - start - max(-start, 0) - len(inside)))

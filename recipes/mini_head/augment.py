"""Alters recordings without altering the delivery: speaker, speed, room, microphone, telephone, codec, silence, noise, gain.

Samples are float32 [n] at 16 kHz. All random choices come from the generator `rng`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pyworld

from msfser_cli.schemas import SAMPLE_RATE_HZ

Row = dict[str, Any]
Codec = tuple[str, str, int | None]

OCTAVES = np.arange(7)
"""Octaves above 125 Hz, at which a microphone's response is given."""
CODECS: tuple[Codec, ...] = (
    ("ogg", "libopus", 8000), ("ogg", "libopus", 12000), ("ogg", "libopus", 24000), ("mp3", "libmp3lame", 16000),
    ("mp3", "libmp3lame", 32000), ("mp3", "libmp3lame", 64000), ("adts", "aac", 16000), ("adts", "aac", 32000),
)  # fmt: skip
"""Containers, codecs and bits per second of typical recordings and messages."""
TELEPHONES: tuple[Codec, ...] = (
    ("wav", "pcm_mulaw", None), ("wav", "pcm_alaw", None),
    ("amr", "libopencore_amrnb", 5900), ("amr", "libopencore_amrnb", 12200),
)  # fmt: skip
"""Containers, codecs and bits per second of telephones, at 8 kHz."""


def moved(row: Row, scale: float, offset: float, duration: float) -> Row:
    """The row of a clip whose audio was stretched by `scale` to `duration` s, and then placed at `offset` s of a recording."""
    words = [{**w, "start": w["start"] * scale + offset, "end": w["end"] * scale + offset} for w in row["words"]]
    return {**row, "start": offset, "end": offset + duration, "words": words}


def speech_only(row: Row, margin: float = 0.1) -> Row:
    """The row cut to its words and `margin` s around them, like an utterance of a long recording."""
    if not row["words"]:
        return row
    start = max(row["start"], row["words"][0]["start"] - margin)
    end = min(row["end"], row["words"][-1]["end"] + margin)
    return {**row, "start": start, "end": end} if end - start > 0.3 else row


@dataclass(frozen=True)
class Session:
    """How a recording is made: how the speaker's voice is altered, the room, the microphone, the noise, and the codec.

    faster: the clips are played so many times as fast. pitch, size: factors of another speaker (see `as_another_speaker`); both
    are 1 for the speaker's own voice. echo: of the room, float32 [n]; empty in a dry room. response_db: the microphone's, at the
    octaves above 125 Hz. band_hz: of a telephone; None: all. noise_db: of the noise below the speech. noise_exponent: as in
    `coloured_noise`. peak_db: of the recording. codec: one of `CODECS` or `TELEPHONES`, or None.
    """

    faster: float
    pitch: float
    size: float
    echo: np.ndarray
    response_db: np.ndarray
    band_hz: tuple[float, float] | None
    noise_db: float
    noise_exponent: int
    peak_db: float
    codec: Codec | None

    @staticmethod
    def draw(rng: np.random.Generator, revoiced: bool) -> Session:
        """A random session. revoiced: by a speaker with another pitch (up to 6 semitones) and size (up to 16 %).

        Larger speakers usually get a lower pitch.
        """
        size = np.exp(rng.uniform(-0.15, 0.15)) if revoiced else 1.0
        pitch = 2 ** (np.clip(12 * np.log2(size) + rng.uniform(-4, 4), -6, 6) / 12) if revoiced else 1.0
        tilt = rng.uniform(-2, 2) * (np.arange(len(OCTAVES)) - 3)
        codecs = TELEPHONES if rng.random() < 1 / 3 else CODECS
        return Session(
            faster=rng.uniform(0.92, 1.08) if rng.random() < 0.5 else 1.0,
            pitch=float(pitch),
            size=float(size),
            echo=room(rng) if rng.random() < 0.4 else np.zeros(0),
            response_db=rng.normal(0, 2, len(OCTAVES)) + tilt if rng.random() < 0.6 else np.zeros(len(OCTAVES)),
            band_hz=(rng.uniform(100, 350), rng.uniform(3000, 5000)) if rng.random() < 0.2 else None,
            noise_db=rng.uniform(12, 35) if rng.random() < 0.5 else rng.uniform(40, 70),
            noise_exponent=int(rng.integers(3)),
            peak_db=rng.uniform(-26, -1),
            codec=codecs[rng.integers(len(codecs))] if rng.random() < 0.5 else None,
        )

    def voiced(self, samples: np.ndarray, row: Row) -> tuple[np.ndarray, Row]:
        """A clip by the session's voice, with its row."""
        if (self.pitch, self.size) != (1, 1):
            samples = as_another_speaker(samples, self.pitch, self.size)
        if self.faster != 1:
            samples = at_speed(samples, self.faster)
        return samples, moved(row, 1 / self.faster, 0.0, len(samples) / SAMPLE_RATE_HZ)

    def recorded(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The recording of what was said in this session."""
        if len(self.echo):
            samples = convolved(samples, self.echo)
        if self.response_db.any():
            samples = through_microphone(samples, self.response_db)
        if self.band_hz:
            samples = over_telephone(samples, *self.band_hz)
        level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-6
        samples = samples + level * 10 ** (-self.noise_db / 20) * coloured_noise(len(samples), self.noise_exponent, rng)
        samples = samples / np.abs(samples).max() * 10 ** (self.peak_db / 20)
        return (through_codec(samples, self.codec) if self.codec else samples).astype(np.float32)


def one_after_another(
    parts: Sequence[tuple[np.ndarray, Row]], rng: np.random.Generator
) -> tuple[np.ndarray, list[Row]]:
    """Clips joined into one recording, with pauses of .3 to 1.2 s before, between and after them, and their rows in it."""
    def pause() -> np.ndarray:
        return np.zeros(round(rng.uniform(0.3, 1.2) * SAMPLE_RATE_HZ), np.float32)

    samples, rows = [pause()], []
    length = len(samples[0])
    for clip, row in parts:
        rows.append(moved(row, 1.0, length / SAMPLE_RATE_HZ, row["end"] - row["start"]))
        samples += [clip, pause()]
        length += len(clip) + len(samples[-1])
    return np.concatenate(samples), rows


def resampled(samples: np.ndarray, length: int) -> np.ndarray:
    """The waveform resampled to `length` samples through its spectrum, so it is band-limited."""
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)


def at_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """The clip played `factor` times as fast. The pitch changes too."""
    return resampled(samples, round(len(samples) / factor))


def as_another_speaker(samples: np.ndarray, pitch: float, size: float) -> np.ndarray:
    """The same delivery by a voice with `pitch` times the pitch, and formants at `size` times the frequency.

    This uses the WORLD vocoder (Morise 2016).
    """
    clip = samples.astype(np.float64)
    rough, times = pyworld.dio(clip, SAMPLE_RATE_HZ)
    f0 = pyworld.stonemask(clip, rough, times, SAMPLE_RATE_HZ)
    envelope = np.log(pyworld.cheaptrick(clip, f0, times, SAMPLE_RATE_HZ))
    breath = pyworld.d4c(clip, f0, times, SAMPLE_RATE_HZ)
    bins = np.arange(envelope.shape[1])
    shifted = [np.array([np.interp(bins / size, bins, frame) for frame in spectrum]) for spectrum in (envelope, breath)]
    voiced = pyworld.synthesize(f0 * pitch, np.exp(shifted[0]), shifted[1], SAMPLE_RATE_HZ)
    return np.pad(voiced, (0, max(0, len(clip) - len(voiced))))[: len(clip)].astype(np.float32)


def room(rng: np.random.Generator) -> np.ndarray:
    """The exponentially decaying echo of a small or medium room, T60 .15 to .6 s, 6 to 18 dB below the voice."""
    length = int(rng.uniform(0.15, 0.6) * SAMPLE_RATE_HZ)
    echo = rng.normal(size=length) * 10 ** (-3 * np.arange(length) / length)
    echo *= 10 ** (rng.uniform(-18, -6) / 20) / np.linalg.norm(echo)
    return echo


def convolved(samples: np.ndarray, echo: np.ndarray) -> np.ndarray:
    """The clip with an echo."""
    total = len(samples) + len(echo)
    wet = np.fft.irfft(np.fft.rfft(samples, total) * np.fft.rfft(echo, total), total)[: len(samples)]
    return (samples + wet).astype(np.float32)


def through_microphone(samples: np.ndarray, response_db: np.ndarray) -> np.ndarray:
    """The clip with a smooth frequency response. response_db: at `OCTAVES`."""
    return _filtered(samples, lambda hz: 10 ** (np.interp(np.log2(np.maximum(hz, 60) / 125), OCTAVES, response_db) / 20))


def over_telephone(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """The clip limited to the band from `low` to `high` Hz."""
    return _filtered(samples, lambda hz: (1 + (low / np.maximum(hz, 1)) ** 8) ** -0.5 * (1 + (hz / high) ** 12) ** -0.5)


def through_codec(samples: np.ndarray, codec: Codec) -> np.ndarray:
    """The clip after coding at a low rate. codec: one of `CODECS` or `TELEPHONES`."""
    container, name, bits = codec
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(name, rate=8000 if codec in TELEPHONES else SAMPLE_RATE_HZ)
        stream.layout = "mono"
        if bits:
            stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(samples.clip(-1, 1).astype(np.float32)[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        resampler = av.AudioResampler(stream.format, "mono", stream.rate)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            out.mux(stream.encode(piece))
    file.seek(0)
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
    with av.open(file) as coded:
        pieces = [p for frame in (*coded.decode(audio=0), None) for p in resampler.resample(frame)]
    decoded = np.concatenate([piece.to_ndarray()[0] for piece in pieces])[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded))).astype(np.float32)


def coloured_noise(length: int, exponent: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with power 1. Its spectrum falls with 1 / f^exponent above 50 Hz."""
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=length)) * np.maximum(hz, 50) ** (-exponent / 2), length)
    return noise / np.sqrt(np.mean(np.square(noise)))


def _filtered(samples: np.ndarray, response: Any) -> np.ndarray:
    length = 2 * len(samples)
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.fft.rfft(samples, length) * response(hz), length)[: len(samples)].astype(np.float32)

"""Alters recordings without altering the delivery: speaker, speed, room, microphone, telephone, codec, silence, noise, gain.

Every function takes and returns float32 [n] at 16 kHz. All random choices come from the generator `rng`.
"""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pyworld

from msfser_cli.schemas import SAMPLE_RATE_HZ

Row = dict[str, Any]

CODECS = (
    ("ogg", "libopus", 8000), ("ogg", "libopus", 12000), ("ogg", "libopus", 24000), ("mp3", "libmp3lame", 16000),
    ("mp3", "libmp3lame", 32000), ("mp3", "libmp3lame", 64000), ("adts", "aac", 16000), ("adts", "aac", 32000),
)  # fmt: skip
"""Containers, codecs and bits per second of typical recordings and messages."""
TELEPHONES = (
    ("wav", "pcm_mulaw", None), ("wav", "pcm_alaw", None),
    ("amr", "libopencore_amrnb", 5900), ("amr", "libopencore_amrnb", 12200),
)  # fmt: skip
"""Containers, codecs and bits per second of telephones, at 8 kHz."""


def moved(row: Row, scale: float, offset: float, duration: float) -> Row:
    """The row of an utterance after its audio was stretched by `scale` and then delayed by `offset` s, to `duration` s in all."""
    words = [{**w, "start": w["start"] * scale + offset, "end": w["end"] * scale + offset} for w in row["words"]]
    return {**row, "start": 0.0, "end": duration, "words": words}


def speech_only(row: Row, margin: float = 0.1) -> Row:
    """The row cut to its words and `margin` s around them, like an utterance of a long recording."""
    if not row["words"]:
        return row
    start = max(row["start"], row["words"][0]["start"] - margin)
    end = min(row["end"], row["words"][-1]["end"] + margin)
    return {**row, "start": start, "end": end} if end - start > 0.3 else row


def joined(parts: list[tuple[np.ndarray, Row]], rng: np.random.Generator) -> tuple[np.ndarray, Row]:
    """Clips of the same delivery joined into one, with short pauses between them."""
    samples: list[np.ndarray] = []
    words: list[dict[str, Any]] = []
    texts: list[str] = []
    length = 0
    for clip, row in parts:
        if samples:
            pause = np.zeros(round(rng.uniform(0.05, 0.5) * SAMPLE_RATE_HZ), np.float32)
            samples.append(pause)
            length += len(pause)
        words += moved(row, 1.0, length / SAMPLE_RATE_HZ, 0.0)["words"]
        texts.append(row["text"])
        samples.append(clip)
        length += len(clip)
    whole = np.concatenate(samples)
    return whole, {**parts[0][1], "start": 0.0, "end": length / SAMPLE_RATE_HZ, "words": words, "text": " ".join(texts)}


def augmented(samples: np.ndarray, row: Row, rng: np.random.Generator) -> tuple[np.ndarray, Row]:
    """The clip as if recorded by another microphone in another room. The speaker's delivery stays the same."""
    scale, offset = 1.0, 0.0
    if rng.random() < 0.5:
        faster = rng.uniform(0.92, 1.08)
        samples, scale = at_speed(samples, faster), 1 / faster
    if rng.random() < 0.3:
        samples = in_room(samples, rng)
    if rng.random() < 0.5:
        samples = through_microphone(samples, rng)
    if rng.random() < 0.2:
        samples = over_telephone(samples, rng)
    if rng.random() < 0.6:
        before, after = (rng.uniform(0, 1.2, 2) * SAMPLE_RATE_HZ).astype(int)
        samples, offset = np.pad(samples, (before, after)), before / SAMPLE_RATE_HZ
    level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-6
    ratio_db = rng.uniform(12, 35) if rng.random() < 0.5 else rng.uniform(40, 70)
    samples = samples + level * 10 ** (-ratio_db / 20) * coloured_noise(len(samples), rng.integers(3), rng)
    samples = samples / np.abs(samples).max() * 10 ** (rng.uniform(-26, -1) / 20)
    if rng.random() < 0.4:
        samples = through_codec(samples, rng)
    return samples.astype(np.float32), moved(row, scale, offset, len(samples) / SAMPLE_RATE_HZ)


def resampled(samples: np.ndarray, length: int) -> np.ndarray:
    """The waveform resampled to `length` samples through its spectrum, so it is band-limited."""
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)


def at_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """The clip played `factor` times as fast. The pitch changes too."""
    return resampled(samples, round(len(samples) / factor))


def as_another_speaker(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same delivery by a voice with another pitch (up to 6 semitones) and vocal tract (up to 16 % longer or shorter).

    This uses the WORLD vocoder (Morise 2016). Larger speakers usually get a lower pitch.
    """
    size = np.exp(rng.uniform(-0.15, 0.15))
    pitch = 2 ** (np.clip(12 * np.log2(size) + rng.uniform(-4, 4), -6, 6) / 12)
    clip = samples.astype(np.float64)
    rough, times = pyworld.dio(clip, SAMPLE_RATE_HZ)
    f0 = pyworld.stonemask(clip, rough, times, SAMPLE_RATE_HZ)
    envelope = np.log(pyworld.cheaptrick(clip, f0, times, SAMPLE_RATE_HZ))
    breath = pyworld.d4c(clip, f0, times, SAMPLE_RATE_HZ)
    bins = np.arange(envelope.shape[1])
    shifted = [np.array([np.interp(bins / size, bins, frame) for frame in spectrum]) for spectrum in (envelope, breath)]
    voiced = pyworld.synthesize(f0 * pitch, np.exp(shifted[0]), shifted[1], SAMPLE_RATE_HZ)
    return np.pad(voiced, (0, max(0, len(clip) - len(voiced))))[: len(clip)].astype(np.float32)


def in_room(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip with the exponentially decaying echo of a small or medium room (T60 .15 to .6 s, 6 to 18 dB below the voice)."""
    length = int(rng.uniform(0.15, 0.6) * SAMPLE_RATE_HZ)
    echo = rng.normal(size=length) * 10 ** (-3 * np.arange(length) / length)
    echo *= 10 ** (rng.uniform(-18, -6) / 20) / np.linalg.norm(echo)
    total = len(samples) + length
    wet = np.fft.irfft(np.fft.rfft(samples, total) * np.fft.rfft(echo, total), total)[: len(samples)]
    return (samples + wet).astype(np.float32)


def through_microphone(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip with a smooth random frequency response: a tilt of up to 2 dB per octave, and a few dB of unevenness."""
    octaves = np.arange(7)
    response_db = rng.normal(0, 2, 7) + rng.uniform(-2, 2) * (octaves - 3)
    return _filtered(samples, lambda hz: 10 ** (np.interp(np.log2(np.maximum(hz, 60) / 125), octaves, response_db) / 20))


def over_telephone(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip limited to a band that begins at 100 to 350 Hz and ends at 3 to 5 kHz."""
    low, high = rng.uniform(100, 350), rng.uniform(3000, 5000)
    return _filtered(samples, lambda hz: (1 + (low / np.maximum(hz, 1)) ** 8) ** -0.5 * (1 + (hz / high) ** 12) ** -0.5)


def through_codec(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip after coding at a low rate: for the web, or for a telephone in one of three cases."""
    telephone = rng.random() < 1 / 3
    codecs = TELEPHONES if telephone else CODECS
    container, codec, bits = codecs[rng.integers(len(codecs))]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=8000 if telephone else SAMPLE_RATE_HZ)
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

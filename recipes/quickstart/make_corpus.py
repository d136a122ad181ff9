"""Makes the quickstart corpus: synthetic speech, and invented labels for its sentences.

    python recipes/quickstart/make_corpus.py [FOLDER]

It needs the programs `flite` and `espeak-ng` (apt-get install flite espeak-ng), and PyAV for the encoders. The same versions of
these write the same bytes. Other versions of an encoder write other bytes for the same speech.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 16_000

EPISODE = (
    ("Welcome back to the lighthouse diary.", 0.9),
    ("Tonight I want to tell you about the longest night of the year.", 1.1),
    ("In the afternoon the sea was calm, and the birds were sleeping on the rocks.", 0.8),
    ("Then the wind turned to the north, and the sky went dark within an hour.", 1.2),
    ("At nine o'clock the lamp went out.", 1.4),
    ("I was terrified.", 1.0),
    ("I climbed the stairs in complete darkness, counting every step, and my hands were shaking.", 0.9),
    ("A wire had come loose, and it took me twenty minutes to repair it.", 0.8),
    ("When the light came back, I laughed out loud.", 1.3),
    ("In the morning a fishing boat came into the harbour, and the whole crew waved at me.", 0.9),
    ("It was the happiest moment of my life.", 1.1),
    ("Thank you for listening, and good night.", 0.5),
)
"""The episode's sentences, each with the seconds of silence after it."""

GOOD_NEWS = "We did it! We won the first prize, and I am so proud of all of you!"
BAD_NEWS = "I am so sorry. My grandmother died last night, and the house is empty now."
COMPLAINT = "This is the third time you have lost my luggage. I am furious, and I want my money back."
STRESS = '<speak>I asked for the <emphasis level="strong">green</emphasis> bottle, and he gave me the other one.</speak>'
VOICE_NOTE = "Hello, it is me. The train is on time, so I will be home at six."
MORGEN = "Guten Morgen! Heute scheint die Sonne, und ich gehe mit meinen Kindern in den Garten."


@dataclass(frozen=True)
class Clip:
    """One file of the corpus. samples: float32 [n], 16 kHz. labels: valence, arousal, dominance, 1..5; None without speech."""

    name: str
    samples: np.ndarray
    codec: str
    rate: int
    labels: tuple[float, float, float] | None
    bit_rate: int | None = None


def clips() -> list[Clip]:
    """The corpus. The labels are a guess at what the sentences express. They are not ratings of the audio."""
    episode = np.concatenate([part for text, rest in EPISODE for part in (flite("slt", text, 1.08), silence(rest))])
    stress = espeak("en-us", STRESS, "-m", "-s", "150")
    morgen = espeak("de+m3", MORGEN, "-s", "140")
    return [
        Clip("episode.mp3", episode, "libmp3lame", 22_050, (3.4, 3.2, 3.0), 48_000),
        Clip("clips/good_news.flac", flite("slt", GOOD_NEWS, 0.95), "flac", RATE, (4.8, 4.3, 3.9)),
        Clip("clips/bad_news.ogg", flite("awb", BAD_NEWS, 1.15), "libopus", 48_000, (1.3, 1.8, 1.9), 24_000),
        Clip("clips/complaint.wav", flite("rms", COMPLAINT, 0.9), "pcm_s16le", RATE, (1.5, 4.2, 4.1)),
        Clip("clips/stress.flac", stress, "flac", 22_050, (2.6, 3.1, 3.3)),
        Clip("clips/voice_note.webm", flite("rms", VOICE_NOTE), "libopus", 48_000, (3.3, 2.4, 2.8), 24_000),
        Clip("clips/morgen.m4a", morgen, "aac", 44_100, (4.1, 2.9, 3.2), 64_000),
        Clip("clips/tones.wav", tones(6.0), "pcm_s16le", RATE, None),
    ]


def flite(voice: str, text: str, stretch: float = 1.0) -> np.ndarray:
    """`text` spoken by a voice of flite, float32 [n], 16 kHz. A `stretch` above 1 is slower."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", text, "-o", file.name]
        subprocess.run(command, check=True)
        return read_wav(Path(file.name).read_bytes())


def espeak(voice: str, text: str, *options: str) -> np.ndarray:
    """`text` spoken by a voice of espeak-ng, float32 [n], 16 kHz."""
    done = subprocess.run(["espeak-ng", "-v", voice, *options, "--stdout", text], check=True, capture_output=True)
    return read_wav(done.stdout)


def silence(seconds: float) -> np.ndarray:
    """Digital silence, float32 [n], 16 kHz."""
    return np.zeros(round(seconds * RATE), np.float32)


def tones(seconds: float) -> np.ndarray:
    """A slow arpeggio over faint noise, 30 dB below full scale, float32 [n], 16 kHz: a file without speech."""
    time = np.arange(round(seconds * RATE)) / RATE
    within = time % 0.75
    notes = np.array([220.0, 277.2, 329.6, 440.0])[(time // 0.75).astype(int) % 4]
    melody = 0.03 * np.sin(np.pi * within / 0.75) ** 2 * np.sin(2 * np.pi * notes * within)
    noise = 0.001 * np.random.default_rng(2026).standard_normal(len(time))
    both: np.ndarray = (melody + noise).astype(np.float32)
    return both


def read_wav(content: bytes) -> np.ndarray:
    """The samples of a 16-bit mono WAV file, float32 [n], resampled to 16 kHz."""
    # espeak-ng writes to a pipe, so the length in its header is wrong.
    with wave.open(io.BytesIO(content)) as file:
        rate = file.getframerate()
        pcm = np.frombuffer(file.readframes(len(content)), np.int16)
    frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    return np.concatenate([f.to_ndarray()[0] for part in (frame, None) for f in resampler.resample(part)])


def write(path: Path, clip: Clip) -> None:
    """Encode `clip` into the file `path`, without dates, versions or random numbers in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(clip.codec, rate=clip.rate, layout="mono")
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        if clip.bit_rate:
            stream.bit_rate = clip.bit_rate
        frame = av.AudioFrame.from_ndarray(clip.samples[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = RATE
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)


def main(folder: Path) -> None:
    """Write corpus/ and labels.csv into `folder`."""
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        labels = csv.writer(file, lineterminator="\n")
        labels.writerow(("file", "valence", "arousal", "dominance"))
        for clip in clips():
            write(folder / "corpus" / clip.name, clip)
            if clip.labels:
                labels.writerow((clip.name, *clip.labels))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

"""Makes the controlled corpus: synthetic speech in three parts. In each part, only one thing decides the label.

    python recipes/controlled/make_corpus.py FOLDER [--scale 1]

- emphasis: "The *cruel* child stood under the wise bridge." Words and delivery are the same in all versions. The stressed word
  decides valence.
- delivery: a plain statement with various rates, pitches and vocal efforts. All three decide arousal, with equal weight.
- words: "The *clerk* robbed the carpenter." The stress is on a word that does not matter. The verb decides valence.

Training, development and test have different deciding words, sentences and voices. All versions of a sentence are spoken by the
same voice. The script writes FOLDER/corpus/*.wav, FOLDER/labels.csv, and one file with the test labels of each part. It needs the
programs `espeak-ng` and `flite` (apt-get install espeak-ng flite).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sentences import BAD, DEEDS, DID_BAD, DID_GOOD, GOOD, PAIRS, SPLITS, STATEMENTS

VOICES = {
    "train": (
        "en-us+m1", "en-gb+m2", "en-us+m3", "en-gb+m4", "en-us+f1", "en-gb+f2", "en-gb-x-rp+f1", "en-us+klatt", "en-gb+Denis",
        "en-us+Michael", "en-gb+john", "en-us+linda", "en-gb+Alicia", "en-us+steph", "en-gb-scotland+victor", "en-gb-x-rp+adam",
        "en-us+quincy", "en-us", "flite:rms", "flite:awb",
    ),
    "development": ("en-us+m6", "en-gb+belinda", "en-gb-x-rp+aunty", "en-gb", "flite:kal16"),
    "test": (
        "en-us+m8", "en-gb+f5", "en-us+f4", "en-gb+Annie", "en-us+Mike", "en-gb+paul", "en-us+Gene", "en-gb+Mario", "en-us+pablo",
        "en-gb-x-rp+edward", "en-us+anika", "en-gb+travis", "en-us+david", "en-gb-scotland+max", "en-us+Andrea",
        "en-gb-x-rp+caleb", "en-us+benjamin", "en-gb+Hugo", "en-us+shelby", "flite:slt",
    ),
}  # fmt: skip
_FLITE_HZ = {"slt": 180, "awb": 140, "rms": 100, "kal16": 105}

SENTENCES = {
    "emphasis": {"train": 100, "development": 16, "test": 40},
    "delivery": {"train": 40, "development": 8, "test": 20},
    "words": {"train": 90, "development": 12, "test": 30},
}
"""The number of sentences of each part and split. A sentence is spoken in two versions, or in four in `delivery`."""


@dataclass(frozen=True)
class Delivery:
    """The delivery of an utterance, each value 0..1. 0 is slow, low and flat, or soft; .5 is the voice's own."""

    rate: float = 0.5
    pitch: float = 0.5
    effort: float = 0.5


@dataclass(frozen=True)
class Item:
    """One file of the corpus. base_rate, base_pitch: of the voice; 1 is the synthesiser's default."""

    part: str
    split: str
    sentence: int
    version: int
    voice: str
    ssml: str
    base_rate: float
    base_pitch: float
    delivery: Delivery = Delivery()
    valence: float | None = None
    arousal: float | None = None

    @property
    def file(self) -> str:
        """The file's path in the corpus."""
        return f"{self.part}/{self.split}_{self.sentence:03d}_{self.version}.wav"


def items(scale: float) -> Iterator[Item]:
    """The corpus, with `scale` times as many sentences. The scale does not change the first sentences of a list."""
    for part, of_sentence in (("emphasis", _emphasis), ("delivery", _delivery), ("words", _words)):
        for split in SPLITS:
            rng = np.random.default_rng([ord(part[0]), SPLITS.index(split)])
            # flite has no markup for stress, so only espeak-ng's voices are used.
            voices = [voice for voice in VOICES[split] if part == "delivery" or not voice.startswith("flite")]
            for number in range(max(2, round(SENTENCES[part][split] * scale))):
                voice, (base_rate, base_pitch) = voices[number % len(voices)], rng.uniform(0.9, 1.1, 2)
                yield from of_sentence(Item(part, split, number, 0, voice, "", base_rate, base_pitch), rng)


def _emphasis(item: Item, rng: np.random.Generator) -> Iterator[Item]:
    good, bad = _nth(GOOD[item.split], item.sentence), _nth(BAD[item.split], item.sentence, turn=3)
    pair = (good, bad) if rng.random() < 0.5 else (bad, good)
    template = _nth(PAIRS[item.split], item.sentence)
    stress = _stress(rng)
    for version, stressed in enumerate((good, bad)):
        ssml = template.format(*(stress.format(word) if word == stressed else word for word in pair))
        ssml = re.sub(r"\b([Aa]) (?=(<[^>]+>)?[aeiou])", r"\1n ", ssml)
        yield replace(item, version=version, ssml=ssml, valence=0.85 if stressed == good else 0.15)


def _stress(rng: np.random.Generator) -> str:
    """Markup with a place for the stressed word. It is higher, louder and slower, about as much as in real speech."""
    louder, higher, slower = rng.integers(40, 70), rng.integers(20, 35), rng.integers(75, 85)
    return f'<prosody pitch="+{higher}%" volume="+{louder}%" rate="{slower}%">{{}}</prosody>'


def _delivery(item: Item, rng: np.random.Generator) -> Iterator[Item]:
    for version in range(4):
        cues = np.clip((version + rng.random()) / 4 + rng.uniform(-0.25, 0.25, 3), 0, 1)
        ssml = _nth(STATEMENTS[item.split], item.sentence)
        yield replace(item, version=version, ssml=ssml, delivery=Delivery(*cues), arousal=round(float(cues.mean()), 3))


def _words(item: Item, rng: np.random.Generator) -> Iterator[Item]:
    before, stressed, after = _nth(DEEDS[item.split], item.sentence).split("*")
    template = before + _stress(rng).format(stressed) + after
    for version, (deeds, valence) in enumerate(((DID_GOOD, 0.85), (DID_BAD, 0.15))):
        ssml = template.format(_nth(deeds[item.split], item.sentence))
        yield replace(item, version=version, ssml=ssml, valence=valence)


def _nth(choices: Sequence[str], number: int, turn: int = 1) -> str:
    """Element `number` of `choices`, cyclically. Each cycle shifts by `turn`, so that two lists give new pairs."""
    return choices[(number + turn * (number // len(choices))) % len(choices)]


def speak(item: Item) -> tuple[np.ndarray, int]:
    """The item's sound, float [n] in -1..1, and its sample rate in Hz. It has very faint noise, like real recordings."""
    rate = item.base_rate * 2 ** (1.1 * (item.delivery.rate - 0.5))
    engine, _, speaker = item.voice.rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        if engine == "flite":
            hz = _FLITE_HZ[speaker] * item.base_pitch * 2 ** (0.8 * (item.delivery.pitch - 0.5))
            spread = hz / 10 * 2 ** (2 * (item.delivery.pitch - 0.5))
            command = ["flite", "-voice", speaker, "--setf", f"duration_stretch={1 / rate:.3f}",
                       "--setf", f"int_f0_target_mean={hz:.1f}", "--setf", f"int_f0_target_stddev={spread:.1f}",
                       "-t", item.ssml, "-o", str(path)]
        else:
            height = 50 + 80 * (item.base_pitch - 1) + 60 * (item.delivery.pitch - 0.5)
            spread = 100 * 2 ** (1.2 * (item.delivery.pitch - 0.5))
            ssml = f'<speak><prosody range="{spread:.0f}%">{item.ssml}</prosody></speak>'
            command = ["espeak-ng", "-v", item.voice, "-m", "-s", f"{160 * rate:.0f}", "-p", f"{height:.0f}", "-w", str(path),
                       ssml]
        subprocess.run(command, check=True, capture_output=True)
        samples, hz = read_wav(path.read_bytes())
    samples = tilted(samples, hz, 8 * (item.delivery.effort - 0.5))
    noise = np.random.default_rng(len(samples)).normal(0, 1e-4, len(samples))
    return samples * (0.5 / np.abs(samples).max()) + noise, hz


def tilted(samples: np.ndarray, rate: int, slope: float) -> np.ndarray:
    """`samples` with `slope` dB more per octave above 500 Hz, because vocal effort raises the upper partials."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / rate), 500) / 500)
    out: np.ndarray = np.fft.irfft(spectrum * 10 ** (slope * np.minimum(octaves, 3) / 20), len(samples))
    return out


def read_wav(data: bytes) -> tuple[np.ndarray, int]:
    """The samples (-1..1) of a WAV file of 16-bit mono PCM, and its rate in Hz. The synthesisers write a wrong length."""
    first = data.index(b"data") + 8
    pcm = np.frombuffer(data[first : first + (len(data) - first) // 2 * 2], "<i2")
    return pcm / 32768, int.from_bytes(data[24:28], "little")


def write(item: Item, corpus: Path) -> None:
    """Write the sound of `item` into the corpus."""
    samples, rate = speak(item)
    path = corpus / item.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def write_labels(path: Path, chosen: Sequence[Item]) -> None:
    """Write the labels of `chosen`, from 0 to 1, for each dimension that has labels. A missing label is empty."""
    rated = [name for name in ("valence", "arousal") if any(getattr(item, name) is not None for item in chosen)]
    with path.open("w", newline="", encoding="utf-8") as file:
        labels = csv.writer(file, lineterminator="\n")
        labels.writerow(("file", "split", "speaker", *rated, "part", "said"))
        for item in chosen:
            values = (getattr(item, name) for name in rated)
            labels.writerow((item.file, item.split, item.voice, *values, item.part, item.ssml))


def main() -> None:
    """Write the corpus and its labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the corpus' sentences (default: 1)")
    arguments = parser.parse_args()
    corpus = list(items(arguments.scale))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, corpus, itertools.repeat(arguments.folder / "corpus")))
    write_labels(arguments.folder / "labels.csv", corpus)
    for part in SENTENCES:
        write_labels(arguments.folder / f"{part}.csv", [item for item in corpus if (item.part, item.split) == (part, "test")])
    print(f"{len(corpus)} recordings in {arguments.folder}")


if __name__ == "__main__":
    main()

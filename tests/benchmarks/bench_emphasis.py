"""How often the emphasised word of a synthetic sentence gets the highest prominence: LEMF, each cue alone, and chance.

    python tests/benchmarks/bench_emphasis.py [--times synthesiser|whisper] [--every N]

eSpeak NG (libespeak-ng, through ctypes) speaks twelve sentences in four voices, two of men and two of women, each time with
another word emphasised by SSML, in two ways at three strengths:

- `<emphasis>`, level moderate, strong, x-strong. eSpeak answers almost only with volume (about +1, +5 and +7 dB) and lowers the
  pitch of the word a little, unlike people: a test of the energy cue.
- `<prosody>` on the word: pitch, volume and rate changed together, by about as much as people do.

Articles, prepositions and pronouns are never the emphasised word. Word times are the synthesiser's own, or, with `--times
whisper`, those that msfser's faster-whisper back end gives for the known text. `--every N` takes each Nth item.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import tempfile
import wave
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.backends.emphasizers import lemf
from msfser_cli.settings import EmphasizeSettings
from msfser_cli.stages.emphasize import emphasize
from msfser_cli.store.audio import Audio, decode

SENTENCES = (
    "My sister gave the old man a letter",
    "We never said that she stole your money",
    "The train to London leaves at seven tonight",
    "Peter wants coffee with his breakfast every morning",
    "I thought the blue car was much faster",
    "They found twelve silver coins under the bridge",
    "You can take the garden path after dinner",
    "Nobody told me about the broken window",
    "Anna will bring her brother home on Friday",
    "This is the third time that he called",
    "The doctor asked for warm water and towels",
    "Our neighbours bought a very large yellow boat",
)
NEVER_EMPHASISED = (
    "the", "a", "to", "at", "with", "was", "on", "for", "and", "of", "is", "that", "about", "my", "his", "her", "your", "our",
)  # fmt: skip
VOICES = ("en-us", "en-us+f3", "gmw/en+f2", "gmw/en-GB-scotland+m3")
MARKUP = {
    "emphasis": tuple((f'<emphasis level="{level}">', "</emphasis>") for level in ("moderate", "strong", "x-strong")),
    "prosody": tuple(
        (f'<prosody pitch="+{pitch}%" volume="+{volume}%" rate="{rate}%">', "</prosody>")
        for pitch, volume, rate in ((10, 20, 95), (20, 40, 85), (35, 70, 75))
    ),
}


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("position", ctypes.c_int), ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("id", ctypes.c_char * 8),
    )  # fmt: skip


class Espeak:
    """eSpeak NG's library: SSML in, samples and the times of its words out. One instance a process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate_hz = self._library.espeak_Initialize(1, 0, None, 0)
        if self.rate_hz <= 0:
            raise RuntimeError("libespeak-ng does not start; is the package espeak-ng-data installed?")
        self._samples: list[np.ndarray] = []
        self._words: list[tuple[int, int, float]] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type:
            if events[i].type == 1:
                self._words.append((events[i].position - 1, events[i].length, events[i].milliseconds / 1000))
            i += 1
        return 0

    def speak(self, ssml: str, voice: str) -> tuple[Audio, list[tuple[str, float]]]:
        """The audio, and the pieces of `ssml` that the synthesiser says as words, with their starts in seconds."""
        self._samples.clear()
        self._words.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"eSpeak NG has no voice {voice}")
        text = ssml.encode()
        utf8, markup = 1, 0x10
        self._library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, utf8 | markup, None, None)
        self._library.espeak_Synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "speech.wav")
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, self.rate_hz, 0, "NONE", ""))
                file.writeframes(np.concatenate(self._samples).tobytes())
            audio = decode(path)
        return audio, [(ssml[at : at + length], start) for at, length, start in self._words]


@dataclass(frozen=True)
class Item:
    """One spoken sentence; `target` is the index of the emphasised word, `ends` closes the last word."""

    markup: str
    strength: int
    words: list[str]
    target: int
    audio: Audio
    starts: list[float]
    ends: list[float]


def items(every: int) -> Iterator[Item]:
    """The spoken sentences; those whose words the synthesiser does not report one by one are left out."""
    espeak = Espeak()
    wanted = [
        (voice, sentence.split(), target, markup, strength)
        for voice in VOICES
        for sentence in SENTENCES
        for target, word in enumerate(sentence.split())
        if word.lower() not in NEVER_EMPHASISED
        for markup in MARKUP
        for strength in range(3)
    ]
    # Shuffled, so that each Nth is a fair sample.
    random.Random(0).shuffle(wanted)
    for voice, words, target, markup, strength in wanted[::every]:
        opening, closing = MARKUP[markup][strength]
        stop = "." if target == len(words) - 1 else ""
        marked = [*words[:target], f"{opening}{words[target]}{stop}{closing}", *words[target + 1 :]]
        audio, said = espeak.speak(f"<speak>{' '.join(marked)}{'' if stop else '.'}</speak>", voice)
        of_words = [i for i, (piece, _) in enumerate(said) if piece in words]
        if [said[i][0] for i in of_words] != words:
            continue
        starts = [said[i][1] for i in of_words]
        after_last = said[of_words[-1] + 1][1] if of_words[-1] + 1 < len(said) else audio.duration
        yield Item(markup, strength, words, target, audio, starts, [*starts[1:], after_last])


def row(item: Item, times: str, aligner: Any) -> dict[str, Any]:
    """The item as an utterance."""
    if times == "whisper":
        found = aligner.align([item.audio.samples[:]], [" ".join(item.words)], ["en"])[0].words
        timed = [(w.word, w.start, w.end, w.aligned) for w in found]
    else:
        timed = [(w, start, end, True) for w, start, end in zip(item.words, item.starts, item.ends, strict=True)]
    words = [{"word": w, "start": start, "end": end, "score": None, "aligned": aligned} for w, start, end, aligned in timed]
    text = " ".join(item.words)
    return {"start": 0.0, "end": item.audio.duration, "language": "en", "text": text, "words": words}


def main() -> None:
    """Speak, score, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", choices=("synthesiser", "whisper"), default="synthesiser")
    options.add_argument("--every", type=int, default=1)
    asked = options.parse_args()
    aligner = None
    if asked.times == "whisper":
        from msfser_cli.backends.transcribers import faster_whisper
        from msfser_cli.model_store.models import locate
        from msfser_cli.settings import TranscribeSettings

        aligner = faster_whisper.load(locate("whisper-base").path, None, TranscribeSettings())

    settings = EmphasizeSettings()
    default = (settings.pitch_weight, settings.energy_weight, settings.duration_weight)
    weights = {
        f"LEMF (defaults, {default[0]:g} {default[1]:g} {default[2]:g})": default,
        "LEMF (1 1 1)": (1, 1, 1),
        "pitch alone": (1, 0, 0),
        "energy alone": (0, 1, 0),
        "duration alone": (0, 0, 1),
    }
    shares = (0.1, 0.15, 0.2, 0.25, 0.3)
    hits: dict[str, dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    taken: dict[float, list[tuple[bool, int]]] = defaultdict(list)
    emphasizer = lemf.load(settings)
    for item in items(asked.every):
        utterance = row(item, asked.times, aligner)
        key = (item.markup, item.strength)
        hits["chance"][key].append(1 / len(item.words))
        [scored] = emphasizer.emphasize(item.audio, [utterance])
        cues = np.array([[z[cue] or 0.0 for cue in lemf.CUES] for z in scored["emphasis_cues"]])
        for name, factors in weights.items():
            hits[name][key].append(float(np.argmax(cues @ np.array(factors)) == item.target))
        for share in shares:
            [out] = emphasize(item.audio, [utterance], emphasizer, EmphasizeSettings(share=share))
            spans = [range(span["first_word"], span["last_word"] + 1) for span in out["emphasis_spans"]]
            taken[share].append((any(item.target in span for span in spans), sum(map(len, spans))))

    columns = [(markup, strength) for markup in MARKUP for strength in range(3)]
    print(f"{len(taken[shares[0]])} sentences, word times from {asked.times}; share in which the emphasised word scores highest")
    print(f"{'':32s}" + "".join(f"{markup:>10s} {strength + 1}" for markup, strength in columns) + f"{'all':>8s}")
    for name, by_key in hits.items():
        cells = "".join(f"{np.mean(by_key[column]):12.2f}" for column in columns)
        print(f"{name:32s}{cells}{np.mean([hit for column in columns for hit in by_key[column]]):8.3f}")
    print("share of words taken: how often the emphasised word is among them, and how many they are")
    for share, results in taken.items():
        print(f"{share:8.2f}{np.mean([hit for hit, _ in results]):8.2f}{np.mean([count for _, count in results]):8.2f}")


if __name__ == "__main__":
    main()

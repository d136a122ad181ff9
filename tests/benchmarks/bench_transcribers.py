"""Compare the transcribers on real speech: word errors, word times, speed, memory, start-up.

    python tests/benchmarks/bench_transcribers.py [--repeats 3] [--long 300] [--speech FOLDER]

FOLDER holds manifest.csv (file, transcript) and the audio. Each measurement is a process of its own; the transcribers take turns,
and the table shows medians. Word times are measured on sentences that espeak-ng speaks, which reports where each word starts
(left out without libespeak-ng): the error of the starts that `align` finds for the known text.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import ctypes.util
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from rich.console import Console
from rich.table import Table

from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import decode
from msfser_cli.store.levels import levelled

SPEECH = Path(__file__).parents[2] / "../shared/data/real_speech"
TRANSCRIBERS = ("faster-whisper", "whisperx")
READ = ("lj_", "libri_")
"""Clips of carefully read English: LJ Speech and LibriSpeech."""
TRANSCRIBED_SECONDS = {"fw_multilingual.flac": 30}
"""Clips whose transcript covers their beginning only."""
MAX_SECONDS = 120
SENTENCES = (
    "The old lighthouse keeper climbed the narrow stairs every evening, and lit the lamp before the boats came home.",
    "Nobody at the station could explain why the last train had left without its driver.",
    "She opened the letter slowly, read it twice, and put it back into the drawer.",
    "Most people forget that the river used to run straight through the middle of the town.",
    "If you want the bread to rise, leave it near the oven for an hour and do not touch it.",
    "The children painted the wall yellow, because green was the only colour they had run out of.",
    "We waited in silence until the judge came back, sat down, and asked for a glass of water.",
    "Bring a coat and a good pair of boots, since the path is steep and the weather changes quickly.",
)
VOICES = ("en-us", "en-gb", "en-us+f3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each transcriber")
    parser.add_argument("--long", type=float, default=300.0, help="seconds of the recording made of many clips")
    parser.add_argument("--speech", type=Path, default=SPEECH)
    parser.add_argument("--measure", nargs=2, metavar=("TRANSCRIBER", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--since", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]), arguments.since)))
        return
    if not (arguments.speech / "manifest.csv").exists():
        sys.exit(f"{arguments.speech}: there is no manifest.csv; name a folder of transcribed speech with --speech")
    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments.speech, Path(folder), arguments.long)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in TRANSCRIBERS}
        for _ in range(arguments.repeats):
            for name, done in runs.items():
                command = [sys.executable, __file__, "--measure", name, folder, "--since", str(time.monotonic())]
                done.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        report(runs, json.loads((Path(folder) / "clips.json").read_text()))


def prepare(speech: Path, folder: Path, long: float) -> None:
    """Write the clips, a recording of at least `long` seconds made of them, and synthetic sentences as .npy, and clips.json."""
    clips: dict[str, dict[str, Any]] = {}
    with (speech / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["transcript"]]
    audio = {}
    for row in rows:
        name = Path(row["file"]).name
        samples = levelled(decode(speech / row["file"])).samples[:]  # as `stages.transcribe` does
        audio[name] = samples[: TRANSCRIBED_SECONDS.get(name, MAX_SECONDS) * SAMPLE_RATE_HZ]
        text = re.sub(r"(^|\| )[LR]: ", " ", row["transcript"])  # the channels of a stereo recording, one after the other
        clips[name] = {"text": text, "kind": "read" if name.startswith(READ) else "other"}
    parts: list[np.ndarray] = []
    texts: list[str] = []
    length = 0
    read = [name for name in clips if clips[name]["kind"] == "read"]
    while length < long * SAMPLE_RATE_HZ:
        name = read[len(texts) % len(read)]
        pause = np.zeros(round((0.4 + 0.3 * (len(texts) % 4)) * SAMPLE_RATE_HZ), np.float32)
        parts += [audio[name], pause]
        texts.append(clips[name]["text"])
        length += len(audio[name]) + len(pause)
    audio["long"] = np.concatenate(parts)
    clips["long"] = {"text": " ".join(texts), "kind": "long"}
    for i, (samples, text, starts) in enumerate(synthesised()):
        audio[f"synthetic {i}"] = samples
        clips[f"synthetic {i}"] = {"text": text, "kind": "synthetic", "starts": starts}
    for name, samples in audio.items():
        np.save(folder / f"{name}.npy", samples)
        clips[name]["seconds"] = len(samples) / SAMPLE_RATE_HZ
    (folder / "clips.json").write_text(json.dumps(clips))


class Event(ctypes.Structure):
    """espeak-ng's espeak_EVENT."""

    _fields_ = (
        ("type", ctypes.c_int), ("id", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("name", ctypes.c_char_p),
    )  # fmt: skip


def synthesised() -> list[tuple[np.ndarray, str, dict[int, float]]]:
    """Each sentence in each voice: float32 [n] at 16 kHz, its text, and the start in seconds of its words by their index."""
    if not (library := ctypes.util.find_library("espeak-ng")):
        return []
    espeak = ctypes.CDLL(library)
    rate = espeak.espeak_Initialize(2, 0, None, 0)  # 2: synchronous, samples come to the callback
    chunks: list[np.ndarray] = []
    events: list[tuple[int, float]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).astype(np.float32) / 32768)
        while event[0].type:
            if event[0].type == 1:  # a word starts
                events.append((event[0].text_position - 1, event[0].audio_position / 1000))
            event = ctypes.cast(ctypes.addressof(event[0]) + ctypes.sizeof(Event), ctypes.POINTER(Event))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))(receive)
    espeak.espeak_SetSynthCallback(callback)
    spoken = []
    for voice in VOICES:
        espeak.espeak_SetVoiceByName(voice.encode())
        for sentence in SENTENCES:
            chunks.clear()
            events.clear()
            text = sentence.encode()
            espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, 1, None, None)  # by characters; UTF-8
            positions = {m.start(): i for i, m in enumerate(re.finditer(r"\S+", sentence))}
            starts = {positions[at]: seconds for at, seconds in events if at in positions}
            samples = np.concatenate(chunks)
            times = np.arange(0, len(samples) / rate, 1 / SAMPLE_RATE_HZ)
            spoken.append((np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32), sentence, starts))
    return spoken


def measure(name: str, folder: Path, since: float) -> dict[str, Any]:
    """In a process of its own, started at `since` on the monotonic clock: what `name` makes of the clips in `folder`."""
    from msfser_cli.backends import text_of
    from msfser_cli.backends.registry import backend
    from msfser_cli.model_store.models import locate
    from msfser_cli.settings import TranscribeSettings

    transcriber = backend("transcribers", name).load(locate("whisper-base").path, None, TranscribeSettings(transcriber=name))
    result: dict[str, Any] = {"start-up": time.monotonic() - since, "clips": {}}
    clips = json.loads((folder / "clips.json").read_text())
    for kind in ("read", "other", "synthetic", "long"):
        for clip in (c for c in clips if clips[c]["kind"] == kind):
            samples = np.load(folder / f"{clip}.npy")
            wall, cpu = time.perf_counter(), time.process_time()
            if kind == "synthetic":
                words = transcriber.align([samples], [clips[clip]["text"]], ["en"])[0].words
            else:
                words = transcriber.transcribe([samples], [None])[0].words
            result["clips"][clip] = {
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "text": text_of(words),
                "starts": [w.start for w in words],
            }
        result[f"memory {kind}"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def report(runs: dict[str, list[dict[str, Any]]], clips: dict[str, dict[str, Any]]) -> None:
    """Print the table: one line a figure, one column a transcriber, and the ratio of the second to the first."""
    figures = {name: [summary(run, clips) for run in done] for name, done in runs.items()}
    table = Table("", *figures, "ratio")
    for figure in figures[TRANSCRIBERS[0]][0]:
        medians = [statistics.median(f[figure] for f in done) for done in figures.values()]
        table.add_row(figure, *(f"{m:.3f}" for m in medians), f"{medians[1] / medians[0]:.2f}" if medians[0] else "")
    console = Console(width=110)
    console.print(table)
    errors = Table("word errors by clip", *runs, "words")
    for clip, known in clips.items():
        if known["kind"] != "synthetic":
            text = spoken(known["text"])
            counts = [jiwer.process_words(text, spoken(done[0]["clips"][clip]["text"])) for done in runs.values()]
            errors.add_row(clip, *(str(c.substitutions + c.deletions + c.insertions) for c in counts), str(len(text.split())))
    console.print(errors)
    if any(run["clips"] != done[0]["clips"] for done in map(texts_only, runs.values()) for run in done):
        console.print("The runs of one transcriber differ in what they recognised.")


def texts_only(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"clips": {c: (r["text"], r["starts"]) for c, r in run["clips"].items()}} for run in done]


def summary(run: dict[str, Any], clips: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The figures of one run."""

    def of(*kinds: str) -> list[str]:
        return [clip for clip in clips if clips[clip]["kind"] in kinds]

    def wer(names: list[str]) -> float:
        return float(jiwer.wer([spoken(clips[c]["text"]) for c in names], [spoken(run["clips"][c]["text"]) for c in names]))

    def per_second(measure: str, names: list[str]) -> float:
        return sum(run["clips"][c][measure] for c in names) / sum(clips[c]["seconds"] for c in names)

    figures = {
        "word error rate, LJ and LibriSpeech": wer(of("read")),
        "word error rate, all transcribed clips": wer(of("read", "other")),
        "word error rate, long recording": wer(of("long")),
        "wall time by audio, clips": per_second("wall", of("read", "other")),
        "wall time by audio, long recording": per_second("wall", of("long")),
        "CPU time by audio, clips": per_second("cpu", of("read", "other")),
        "CPU time by audio, long recording": per_second("cpu", of("long")),
        "start-up, s": run["start-up"],
        "peak memory, clips, MiB": run["memory other"],
        "peak memory, long recording, MiB": run["memory long"],
    }
    if synthetic := of("synthetic"):
        errors = [
            1000 * (run["clips"][clip]["starts"][int(word)] - start)
            for clip in synthetic
            for word, start in clips[clip]["starts"].items()
        ]
        figures["word starts, median error, ms"] = statistics.median(map(abs, errors))
        figures["word starts, 95th percentile, ms"] = float(np.percentile(np.abs(errors), 95))
        figures["word starts, mean lateness, ms"] = statistics.mean(errors)
    return figures


ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip


def cardinal(number: int) -> str:
    """`number` (below a million) in words, as they are spoken in English without "and"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if number >= unit:
            return f"{cardinal(number // unit)} {name}" + (f" {cardinal(number % unit)}" if number % unit else "")
    raise ValueError(number)


def ordinal(number: int) -> str:
    """The ordinal of `number` in words."""
    *front, last = cardinal(number).split()
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*front, last])


def year(number: int) -> str:
    """A year between 1100 and 1999 in words."""
    rest = number % 100
    return f"{cardinal(number // 100)} " + ("hundred" if rest == 0 else f"oh {ONES[rest]}" if rest < 10 else cardinal(rest))


def spoken(text: str) -> str:
    """`text` for comparing words: lower case, numbers in words, neither punctuation nor hyphens."""
    text = text.lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\b(\d{1,6})(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1])), text)
    text = re.sub(r"\b1[1-9]\d\d\b", lambda m: year(int(m[0])), text)
    text = re.sub(r"\b\d{1,6}\b", lambda m: cardinal(int(m[0])), text)
    return " ".join(re.sub(r"[^\w\s]", " ", text.replace("'", "")).split())


if __name__ == "__main__":
    main()

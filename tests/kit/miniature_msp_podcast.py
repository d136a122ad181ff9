"""A miniature of MSP-Podcast: the files of a release, in its folders and formats, the awkward ones too. All is synthetic."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit import speech
from kit.speech import Turn

WORDS = {"A": "Angry", "S": "Sad", "H": "Happy", "N": "Neutral"}

SPEAKERS = (
    # split, podcast, speaker, gender, voice, turns
    ("Train", "0003", "12", "Female", "f1", 4), ("Train", "0003", "13", "Male", "m1", 4),
    ("Train", "0021", "14", "Female", "f2", 4), ("Train", "0107", "Unknown", "Unknown", "m2", 4),
    ("Train", "1108", "Unknown", "Unknown", "f3", 4),
    ("Development", "0002", "20", "Female", "f4", 4), ("Development", "0153", "21", "Male", "m3", 4),
    ("Development", "0153", "22", "Female", "f5", 4),
    ("Test1", "0001", "30", "Male", "m4", 4), ("Test1", "0001", "39", "Female", "f1", 4),
    ("Test2", "5001", "51", "Male", "m5", 3), ("Test2", "5002", "52", "Female", "f2", 3),
)  # fmt: skip
TEST3 = (("f3", 2), ("m6", 2))

STEREO = "MSP-PODCAST_0003_0002.wav"
"""At 44.1 kHz, in stereo."""
TELEPHONE = "MSP-PODCAST_0021_0001.wav"
"""At 8 kHz."""
NOT_THERE = "MSP-PODCAST_0107_0003.wav"
"""Has labels and no wav."""
EMPTY = "MSP-PODCAST_0001_0002.wav"
"""A wav of no bytes."""
UNLABELLED = "MSP-PODCAST_0777_0001.wav"
"""A wav without labels, and not of Test3."""
NO_TRANSCRIPT = "MSP-PODCAST_0002_0001.wav"


@dataclass(frozen=True)
class Labelled:
    """One turn with what the release says of it."""

    name: str
    turn: Turn
    split: str
    speaker: str
    gender: str

    @property
    def raters(self) -> list[tuple[str, tuple[int, int, int]]]:
        """(worker, (valence, arousal, dominance)) of the five raters."""
        rng = random.Random(self.name)
        return [(f"WORKER{rng.randrange(10**8):08d}", rating) for rating in self.turn.ratings(1, 7, 5)]

    @property
    def means(self) -> tuple[float, float, float]:
        """Arousal, valence, dominance: the order of the release."""
        v, a, d = np.mean([rating for _, rating in self.raters], axis=0)
        return round(float(a), 6), round(float(v), 6), round(float(d), 6)

    @property
    def emotion(self) -> str:
        """The letter of the consensus; X where the raters do not agree."""
        if self.name.endswith("3.wav"):
            return "X"
        if abs(self.turn.valence) < 0.2:
            return "N"
        return "H" if self.turn.valence > 0 else "A" if self.turn.arousal > 0 else "S"


def labelled() -> list[Labelled]:
    """The turns with labels, in the order of their names."""
    found, count = [], dict.fromkeys((podcast for _, podcast, *_ in SPEAKERS), 0)
    for split, podcast, speaker, gender, voice, turns in SPEAKERS:
        for turn in speech.turns(voice, turns, f"{podcast} {voice}"):
            count[podcast] += 1
            found.append(Labelled(f"MSP-PODCAST_{podcast}_{count[podcast]:04d}.wav", turn, split, speaker, gender))
    return sorted(found, key=lambda one: one.name)


def test3() -> dict[str, Turn]:
    """The turns of Test3 by name, whose labels, speakers and transcripts are hidden."""
    turns = [turn for voice, count in TEST3 for turn in speech.turns(voice, count, voice)]
    return {f"MSP-PODCAST_test3_{i:04d}.wav": turn for i, turn in enumerate(turns, start=1)}


def build(folder: Path) -> None:
    """Lay the corpus out in `folder`."""
    rows = labelled()
    for name in ("Audios", "Labels", "Transcripts", "ForceAligned", "Time_Labels", "Previous_releases_information"):
        (folder / name).mkdir(parents=True)
    (folder / "readme.txt").write_text("A miniature; all of it is synthetic.\n")
    _audios(folder / "Audios", rows)
    _labels(folder / "Labels", rows)
    for row in rows:
        if row.name != NO_TRANSCRIPT:
            (folder / "Transcripts" / f"{row.name[:-4]}.txt").write_text(row.turn.text)
            (folder / "ForceAligned" / f"{row.name[:-4]}.TextGrid").write_text(_text_grid(row.turn))
    known = sorted({(row.speaker, row.gender) for row in rows if row.speaker != "Unknown"}, key=lambda s: int(s[0]))
    (folder / "Speaker_ids.txt").write_text(
        "".join(f"Speaker_{speaker}; {gender}\n" for speaker, gender in known)
        + "\n" + "".join(f"{row.name};{row.speaker}\n" for row in rows)
    )
    (folder / "Partitions.txt").write_text(
        "".join(f"{row.split}; {row.name}\n" for row in rows) + "".join(f"Test3; {name}\n" for name in test3())
    )
    for podcast in sorted({row.name.split("_")[1] for row in rows}):
        times = [f"{row.name} {3 * i:.2f} {3 * i + 2:.2f}\n" for i, row in enumerate(rows) if row.name.split("_")[1] == podcast]
        (folder / "Time_Labels" / f"MSP-PODCAST_{podcast}.txt").write_text("".join(times))


def _audios(folder: Path, rows: list[Labelled]) -> None:
    for row in rows:
        if row.name == NOT_THERE:
            continue
        rate = {STEREO: 44_100, TELEPHONE: 8_000}.get(row.name, 16_000)
        samples = row.turn.samples(rate)
        speech.write(folder / row.name, np.stack([samples, 0.5 * samples], axis=1) if row.name == STEREO else samples, rate)
    (folder / EMPTY).write_bytes(b"")
    for name, turn in {**test3(), UNLABELLED: Turn("Nobody rated this.", "m1", 0, 0)}.items():
        speech.write(folder / name, turn.samples(16_000), 16_000)
    (folder / f"._{rows[0].name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")


def _labels(folder: Path, rows: list[Labelled]) -> None:
    with (folder / "labels_consensus.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"])
        writer.writerows([row.name, row.emotion, *row.means, row.speaker, row.gender, row.split] for row in rows)
    consensus = {
        row.name: {
            "EmoClass": row.emotion, **dict(zip(("EmoAct", "EmoVal", "EmoDom"), row.means, strict=True)),
            "SpkrID": row.speaker, "Gender": row.gender, "Split_Set": row.split,
        }
        for row in rows
    }  # fmt: skip
    (folder / "labels_consensus.json").write_text(json.dumps(consensus, indent=4))
    with (folder / "labels.txt").open("w") as file, (folder / "labels_detailed.csv").open("w", newline="") as detailed:
        writer = csv.writer(detailed)
        writer.writerow(["FileName", "Annotation"])
        for row in rows:
            a, v, d = row.means
            file.write(f"{row.name}; {row.emotion}; A:{a:.6f}; V:{v:.6f}; D:{d:.6f};\n")
            for worker, (valence, arousal, dominance) in row.raters:
                word = WORDS.get(row.emotion, "Other-unsure")
                line = f"{worker}; {word}; {word},Concerned; A:{arousal:.6f}; V:{valence:.6f}; D:{dominance:.6f};"
                file.write(line + "\n")
                writer.writerow([row.name, line])
            file.write("\n")


def _text_grid(turn: Turn) -> str:
    """The words at equal distances: nothing here reads them, the file only has to be there."""
    words = turn.text.rstrip(".").lower().split()
    end = 0.3 * len(words)
    intervals = "".join(
        f"        intervals [{i}]:\n            xmin = {0.3 * (i - 1):.2f}\n            xmax = {0.3 * i:.2f}\n"
        f'            text = "{word}"\n'
        for i, word in enumerate(words, start=1)
    )
    return (
        f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {end:.2f}\ntiers? <exists>\nsize = 1\n'
        "item []:\n"
        f'    item [1]:\n        class = "IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = {end:.2f}\n'
        f"        intervals: size = {len(words)}\n{intervals}"
    )

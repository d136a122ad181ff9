"""Computes vectors of EmoDB and EmoBank with msfser's own stages. Each part is kept in a cache folder."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import augment
import numpy as np
import voices

from msfser_cli import settings as st
from msfser_cli.profiles import profile
from msfser_cli.runs.chain import plan
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.stages.work import Recording, Segment, Work
from msfser_cli.store.audio import Audio, decode

Row = dict[str, Any]
VECTORS = ("acoustic_vector", "les_vector", "gs_vector", "es_vector")
COPIES = 6
"""The number of augmented copies of each acted clip, and of copies with another voice. Every second augmented copy joins two or
three clips.
"""


@dataclass(frozen=True)
class Examples:
    """n utterances. acoustic: [n, Da]. texts: [n, 3, Dt]. present: bool [n, 4]. labels: [n, 3], 0..1.

    speaker: the voice. item: the number of the clip or sentence. form: how it was altered.
    """

    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    speaker: np.ndarray
    item: np.ndarray
    form: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: np.ndarray) -> Examples:
        """The examples selected by a mask or by indices."""
        return Examples(*(getattr(self, f.name)[chosen] for f in fields(self)))


class Listener:
    """The chain of the profile `mini` up to the vectors. Each clip is one utterance."""

    def __init__(self) -> None:
        values = profile("mini")
        values["transcribe"]["unit"] = "file"
        settings = {stage: st.build(stage, values[stage]) for stage in ("transcribe", "emphasize", "describe", "embed")}
        self.transcribe, *self.rest = plan(settings).load()

    def row(self, audio: Audio, text: str | None = None, language: str | None = None) -> Row | None:
        """The clip's row with its words, recognised, or aligned if `text` is given; None if the clip has no speech."""
        segments = () if text is None else (Segment(text=text, language=language),)
        work = Work(Recording("clip", Path("clip"), segments), audio)
        self.transcribe([work])
        if work.error:
            raise work.error
        return work.rows[0] if work.rows else None

    def vectors(self, audio: Audio, row: Row) -> Row:
        """The row with emphasis, description and vectors."""
        work = Work(Recording("clip", Path("clip")), audio, [row])
        for step in self.rest:
            step([work])
        if work.error:
            raise work.error
        return work.rows[0]


_listener: Listener | None = None


def listener() -> Listener:
    """The listener of this process. It is loaded once."""
    global _listener
    _listener = _listener or Listener()
    return _listener


def manifest(folder: Path) -> list[dict[str, str]]:
    """The lines of a corpus's manifest.csv."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sentences(data: Path, split: str) -> list[tuple[str, list[float]]]:
    """EmoBank's sentences of a split, with valence, arousal, dominance rescaled from 1..5 to 0..1."""
    with (data / "emobank" / "emobank.csv").open(encoding="utf-8", newline="") as file:
        chosen = [line for line in csv.DictReader(file) if line["split"] == split]
    return [(line["text"].strip(), [(float(line[d]) - 1) / 4 for d in "VAD"]) for line in chosen]


def acted(data: Path, cache: Path) -> Examples:
    """EmoDB: each clip whole, cut to its speech, and in `COPIES` altered copies. `item` is the number of the clip."""
    folder = data / "emodb"
    clips = manifest(folder)

    def make() -> Iterator[Row]:
        recognised = list(_mapped(_recognised, [folder / c["file"] for c in clips]))
        alike: dict[tuple[str, str], list[int]] = {}
        for i, clip in enumerate(clips):
            if recognised[i] is not None:
                alike.setdefault((clip["speaker"], clip["emotion"]), []).append(i)
        work = []
        for i, clip in enumerate(clips):
            if recognised[i] is not None:
                group = [i, *(k for k in alike[clip["speaker"], clip["emotion"]] if k != i)]
                work.append((i, folder, [(j, folder / clips[j]["file"], recognised[j]) for j in group]))
        for i, rows in zip((w[0] for w in work), _mapped(_variants, work), strict=True):
            labels = [float(clips[i][d]) for d in DIMENSIONS]
            for form, row in rows:
                yield {**row, "labels": labels, "speaker": clips[i]["speaker"], "item": i, "form": form}

    return _cached(cache / "acted.npz", make)


def spoken(data: Path, cache: Path, count: int) -> Examples:
    """`count` training sentences of EmoBank by synthetic voices, plain and augmented. `item` is the number of the sentence."""
    lines = sentences(data, "train")

    def make() -> Iterator[Row]:
        fitting = [i for i, (text, _) in enumerate(lines) if 3 <= len(text.split()) <= 20]
        chosen = np.random.default_rng(0).permutation(fitting)[:count].tolist()
        for i, rows in zip(chosen, _mapped(_spoken_variants, [(i, lines[i][0]) for i in chosen]), strict=True):
            for form, voice, row in rows:
                yield {**row, "labels": lines[i][1], "speaker": voice, "item": i, "form": form}

    return _cached(cache / "spoken.npz", make)


def written(data: Path, cache: Path, split: str) -> Examples:
    """EmoBank's sentences of a split as text only: GS, and LES from a random fifth of the words, as many as are emphasised."""

    def make() -> Iterator[Row]:
        lines = sentences(data, split)
        rng = np.random.default_rng(0)
        for first in range(0, len(lines), 256):
            batch = lines[first : first + 256]
            emphasised = [_some_words(text, rng) for text, _ in batch]
            rows = [{"text": t, "emphasized_text": e, "description": None} for (t, _), e in zip(batch, emphasised, strict=True)]
            for i, row in enumerate(_text_vectors(rows)):
                yield {**row, "labels": batch[i][1], "speaker": "", "item": first + i, "form": "written"}

    return _cached(cache / f"written_{split}.npz", make)


def _recognised(path: Path) -> Row | None:
    return listener().row(decode(path))


def _variants(work: tuple[int, Path, list[tuple[int, Path, Row]]]) -> list[tuple[str, Row]]:
    number, _, clips = work
    rng = np.random.default_rng(number)
    samples, row = decode(clips[0][1]).samples[:], clips[0][2]
    variants = [("whole", samples, row), ("speech", samples, augment.speech_only(row))]
    for copy in range(COPIES):
        if copy % 2 and len(clips) > 1:
            others = rng.permutation(np.arange(1, len(clips)))[: rng.integers(1, 3)]
            parts = [(decode(clips[k][1]).samples[:], clips[k][2]) for k in (0, *others)]
            longer, longer_row = augment.joined(parts, rng)
            variants.append(("joined", *augment.augmented(longer, longer_row, rng)))
        else:
            variants.append(("augmented", *augment.augmented(samples, row, rng)))
    for copy in range(COPIES):
        other = augment.as_another_speaker(samples, rng)
        variants.append(("revoiced", *(augment.augmented(other, row, rng) if copy % 2 else (other, row))))
    return [(form, _vectors_of(listener().vectors(Audio(audio), row))) for form, audio, row in variants]


def _spoken_variants(work: tuple[int, str]) -> list[tuple[str, str, Row]]:
    number, text = work
    rng = np.random.default_rng(number)
    voice = voices.Voice.draw(voices.TRAIN, rng)
    samples = voice.speak(text)
    row = listener().row(Audio(samples), text, "en")
    if row is None:
        return []
    other, other_row = augment.augmented(samples, row, rng)
    return [
        ("whole", voice.name, _vectors_of(listener().vectors(Audio(samples), row))),
        ("augmented", voice.name, _vectors_of(listener().vectors(Audio(other), augment.speech_only(other_row)))),
    ]


def _some_words(text: str, rng: np.random.Generator) -> str | None:
    words = text.split()
    count = max(1, int(0.2 * len(words) + 0.5))
    chosen = sorted(rng.permutation(len(words))[:count])
    return " ".join(words[i].strip("\"'.,;:!?()") for i in chosen).strip() or None if len(words) > 1 else None


def _text_vectors(rows: list[Row]) -> list[Row]:
    from msfser_cli.backends.registry import backend
    from msfser_cli.model_store.models import locate
    from msfser_cli.stages.embed import TEXTS

    global _text_encoder
    embed = profile("mini")["embed"]
    _text_encoder = _text_encoder or backend("encoders", embed["text_encoder"]).load(locate(embed["text_model"]).path)
    texts = sorted({row[column] for row in rows for column in TEXTS.values() if row[column]})
    meaning = dict(zip(texts, _text_encoder.encode(texts), strict=True))
    return [{"acoustic_vector": None, **{vector: meaning.get(row[column]) for vector, column in TEXTS.items()}} for row in rows]


_text_encoder: Any = None


def _vectors_of(row: Row) -> Row:
    return {name: row[name] for name in VECTORS}


def _mapped(function: Callable[[Any], Any], work: Sequence[Any]) -> Iterator[Any]:
    """The results of `function` for each item of `work`, in order. It runs in two processes."""
    with ProcessPoolExecutor(2) as pool:
        for i, result in enumerate(pool.map(function, work, chunksize=4), start=1):
            if i % 100 == 0:
                print(f"  {function.__name__[1:]}: {i} of {len(work)}", flush=True)
            yield result


def _cached(path: Path, make: Callable[[], Iterable[Row]]) -> Examples:
    if not path.exists():
        print(f"making {path.name}", flush=True)
        rows = list(make())
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes = {name: next((len(r[name]) for r in rows if r[name] is not None), 1) for name in VECTORS}
        vectors = {
            name: np.stack([np.zeros(sizes[name], np.float32) if r[name] is None else r[name] for r in rows]) for name in VECTORS
        }
        text_size = max(sizes[name] for name in VECTORS[1:])
        np.savez(
            path,
            acoustic=vectors[VECTORS[0]],
            texts=np.stack([np.broadcast_to(vectors[name], (len(rows), text_size)) for name in VECTORS[1:]], axis=1),
            present=np.array([[r[name] is not None for name in VECTORS] for r in rows]),
            labels=np.array([r["labels"] for r in rows], np.float32),
            **{name: np.array([r[name] for r in rows]) for name in ("speaker", "item", "form")},
        )
    with np.load(path) as stored:
        return Examples(**{f.name: stored[f.name] for f in fields(Examples)})

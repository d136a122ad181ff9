"""Computes vectors of the corpora with msfser's own stages. Each part is kept in a cache folder."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import augment
import numpy as np
import voices
from corpora import Clip

from msfser_cli import settings as st
from msfser_cli.profiles import profile
from msfser_cli.runs.chain import plan
from msfser_cli.stages.work import Recording, Segment, Work
from msfser_cli.store.audio import Audio, decode

Row = dict[str, Any]
VECTORS = ("acoustic_vector", "les_vector", "gs_vector", "es_vector")


@dataclass(frozen=True)
class Examples:
    """n utterances. acoustic: [n, Da]. texts: [n, 3, Dt]. present: bool [n, 4]. labels: [n, 3], 0..1.

    rated: [n, 3], 0..1, the labels to test against (see `corpora.Clip`). speaker: the voice. session: the recording, in which the
    speaker and the channel are always the same. item: the number of the clip or sentence. form: how it was altered.
    """

    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    rated: np.ndarray
    speaker: np.ndarray
    session: np.ndarray
    item: np.ndarray
    form: np.ndarray

    @staticmethod
    def of(rows: Sequence[Row]) -> Examples:
        """Rows with the columns `VECTORS` and a value for each of the other fields."""
        sizes = {name: next((len(r[name]) for r in rows if r[name] is not None), 1) for name in VECTORS}
        vectors = {
            name: np.stack([np.zeros(sizes[name], np.float32) if r[name] is None else r[name] for r in rows]).astype(np.float32)
            for name in VECTORS
        }
        text_size = max(sizes[name] for name in VECTORS[1:])
        return Examples(
            vectors[VECTORS[0]],
            np.stack([np.broadcast_to(vectors[name], (len(rows), text_size)) for name in VECTORS[1:]], axis=1),
            np.array([[r[name] is not None for name in VECTORS] for r in rows]),
            *(np.array([r[name] for r in rows], np.float32) for name in ("labels", "rated")),
            *(np.array([r[name] for r in rows]) for name in ("speaker", "session", "item", "form")),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: np.ndarray) -> Examples:
        """The examples selected by a mask or by indices."""
        return Examples(*(getattr(self, f.name)[chosen] for f in fields(self)))


def together(parts: Sequence[Examples]) -> Examples:
    """The examples of several sets, one after the other."""
    return Examples(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Examples)))


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

    def vectors(self, audio: Audio, rows: list[Row]) -> list[Row]:
        """The rows of a recording with emphasis, description and vectors."""
        work = Work(Recording("clip", Path("clip")), audio, rows)
        for step in self.rest:
            step([work])
        if work.error:
            raise work.error
        return work.rows


_listener: Listener | None = None


def listener() -> Listener:
    """The listener of this process. It is loaded once."""
    global _listener
    _listener = _listener or Listener()
    return _listener


def sentences(data: Path, split: str) -> list[tuple[str, list[float]]]:
    """EmoBank's sentences of a split, with valence, arousal, dominance rescaled from 1..5 to 0..1."""
    with (data / "emobank" / "emobank.csv").open(encoding="utf-8", newline="") as file:
        chosen = [line for line in csv.DictReader(file) if line["split"] == split]
    return [(line["text"].strip(), [(float(line[d]) - 1) / 4 for d in "VAD"]) for line in chosen]


def acted(name: str, clips: Sequence[Clip], copies: int, revoiced: float, cache: Path) -> Examples:
    """The clips of an acted corpus: each whole, cut to its speech, and in `copies` sessions of its speaker.

    revoiced: the share of sessions in which another speaker says the same. `item` is the number of the clip.
    """
    def make() -> Iterator[Row]:
        recognised = dict(enumerate(_mapped(_recognised, [clip.path for clip in clips])))
        heard = {i: row for i, row in recognised.items() if row is not None}
        for i, rows in zip(heard, _mapped(_alone, [(clips[i].path, row) for i, row in heard.items()]), strict=True):
            for form, row in rows:
                yield _labelled(row, clips[i], i, f"{clips[i].speaker}, {form}", form)
        work = []
        for speaker in sorted({clip.speaker for clip in clips}):
            own = [(i, clips[i].path, heard[i]) for i in heard if clips[i].speaker == speaker]
            work += [(f"{speaker}, session {copy}", own, revoiced) for copy in range(copies)]
        for (session, own, _), rows in zip(work, _mapped(_session, work), strict=True):
            for (i, *_), row in zip(own, rows, strict=True):
                yield _labelled(row, clips[i], i, session, "session")

    return _cached(cache / f"{name}.npz", make)


def spoken(data: Path, cache: Path, count: int) -> Examples:
    """`count` training sentences of EmoBank by synthetic voices, plain and augmented. `item` is the number of the sentence."""
    lines = sentences(data, "train")

    def make() -> Iterator[Row]:
        fitting = [i for i, (text, _) in enumerate(lines) if 3 <= len(text.split()) <= 20]
        chosen = np.random.default_rng(0).permutation(fitting)[:count].tolist()
        for i, rows in zip(chosen, _mapped(_spoken_variants, [(i, lines[i][0]) for i in chosen]), strict=True):
            for form, voice, row in rows:
                about = {"labels": lines[i][1], "rated": lines[i][1], "speaker": voice, "session": f"{i}", "form": form}
                yield {**row, **about, "item": i}

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
                about = {"labels": batch[i][1], "rated": batch[i][1], "speaker": "", "session": "", "form": "written"}
                yield {**row, **about, "item": first + i}

    return _cached(cache / f"written_{split}.npz", make)


def _recognised(path: Path) -> Row | None:
    return listener().row(decode(path))


def _labelled(row: Row, clip: Clip, item: int, session: str, form: str) -> Row:
    about = {"labels": clip.labels, "rated": clip.rated, "speaker": clip.speaker}
    return {**row, **about, "session": session, "item": item, "form": form}


def _alone(work: tuple[Path, Row]) -> list[tuple[str, Row]]:
    """The clip by itself, whole and cut to its speech."""
    path, row = work
    audio = decode(path)
    forms = {"whole": row, "speech": augment.speech_only(row)}
    return [(form, _vectors_of(listener().vectors(audio, [row])[0])) for form, row in forms.items()]


def _session(work: tuple[str, list[tuple[int, Path, Row]], float]) -> list[Row]:
    """A speaker's clips in one recording. A third of the rows have the whole clip."""
    name, clips, revoiced = work
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    session = augment.Session.draw(rng, revoiced=rng.random() < revoiced)
    samples, rows = augment.one_after_another([session.voiced(decode(path).samples[:], row) for _, path, row in clips], rng)
    rows = [row if whole else augment.speech_only(row) for row, whole in zip(rows, rng.random(len(rows)) < 1 / 3, strict=True)]
    return [_vectors_of(row) for row in listener().vectors(Audio(session.recorded(samples, rng)), rows)]


def _spoken_variants(work: tuple[int, str]) -> list[tuple[str, str, Row]]:
    number, text = work
    rng = np.random.default_rng(number)
    voice = voices.Voice.draw(voices.TRAIN, rng)
    samples = voice.speak(text)
    row = listener().row(Audio(samples), text, "en")
    if row is None:
        return []
    session = augment.Session.draw(rng, revoiced=False)
    other, [other_row] = augment.one_after_another([session.voiced(samples, row)], rng)
    other = session.recorded(other, rng)
    return [
        ("whole", voice.name, _vectors_of(listener().vectors(Audio(samples), [row])[0])),
        ("session", voice.name, _vectors_of(listener().vectors(Audio(other), [augment.speech_only(other_row)])[0])),
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
        for i, result in enumerate(pool.map(function, work, chunksize=1 if len(work) < 1000 else 4), start=1):
            if i % 100 == 0:
                print(f"  {function.__name__[1:]}: {i} of {len(work)}", flush=True)
            yield result


def _cached(path: Path, make: Callable[[], Iterable[Row]]) -> Examples:
    if not path.exists():
        print(f"making {path.name}", flush=True)
        examples = Examples.of(list(make()))
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}")
        np.savez(whole, **{f.name: getattr(examples, f.name) for f in fields(Examples)})
        whole.rename(path)
    with np.load(path) as stored:
        return Examples(**{f.name: stored[f.name] for f in fields(Examples)})

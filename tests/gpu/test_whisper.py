"""Whisper on the GPU: the words are those of the CPU, and do not depend on what is decoded together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import ctranslate2
import numpy as np
import pytest

from kit.gpu import Card, on_the_cpu
from kit.speech_models import save_ctc
from msfser_cli.backends import Transcript, Word, text_of
from msfser_cli.backends.transcribers import faster_whisper, whisperx
from msfser_cli.backends.whisper_ct2 import Whisper
from msfser_cli.model_store.models import locate
from msfser_cli.settings import TranscribeSettings
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.model

Note = Callable[..., None]

FRAME = 0.02
"""Seconds of one state of the encoder."""
OTHER_WORDS = {"auto": 0.03, "int8": 0.06, "float32": 0.01}
"""The largest share of words that may differ from the CPU's float32, by compute type. Case and punctuation do not count."""
STATES = 0.03
"""The largest difference of the encoder's states from the CPU's float32, relative to their length."""


@dataclass(frozen=True)
class Compared:
    """Two results for the same recordings. other_words: the share of words that differ. times: of the words that do not, by how
    much their starts and ends differ, in seconds.
    """

    same_texts: int
    other_words: float
    times: np.ndarray


def compared(one: Sequence[Transcript], other: Sequence[Transcript]) -> Compared:
    same_texts, same_words, words, times = 0, 0, 0, list[float]()
    for a, b in zip(one, other, strict=True):
        same_texts += text_of(a.words) == text_of(b.words)
        words += max(len(a.words), len(b.words))
        for i, j, size in SequenceMatcher(None, bare(a.words), bare(b.words), autojunk=False).get_matching_blocks():
            same_words += size
            for x, y in zip(a.words[i : i + size], b.words[j : j + size], strict=True):
                times += [abs(x.start - y.start), abs(x.end - y.end)]
    return Compared(same_texts, 1 - same_words / words, np.array(times))


def bare(words: Sequence[Word]) -> list[str]:
    return ["".join(c for c in word.word.casefold() if c.isalnum()) for word in words]


def note_all(note: Note, what: str, found: Compared, recordings: int) -> None:
    note(f"{what}: the same texts", found.same_texts, f"of {recordings} recordings")
    note(f"{what}: other words", found.other_words, "of all")
    note(f"{what}: word times within a frame", float((found.times <= FRAME + 1e-6).mean()), "of all")
    note(f"{what}: word times differ by at most", float(found.times.max()), "s")


@pytest.fixture(scope="module")
def whisper_base() -> Path:
    return locate("whisper-base").path


@pytest.fixture(scope="module")
def by_the_cpu(whisper_base: Path, speech: dict[str, np.ndarray]) -> list[Transcript]:
    """What the CPU hears in float32."""
    with on_the_cpu():
        return hear(whisper_base, "float32", list(speech.values()))


def hear(model: Path, compute_type: str, clips: list[np.ndarray]) -> list[Transcript]:
    return faster_whisper.load(model, None, TranscribeSettings(compute_type=compute_type)).transcribe(clips, [None] * len(clips))


@pytest.mark.parametrize("compute_type", OTHER_WORDS)
def test_the_words_are_those_of_the_cpu(
    compute_type: str, whisper_base: Path, by_the_cpu: list[Transcript], speech: dict[str, np.ndarray], card: Card, note: Note
) -> None:
    device = "cuda" if card.is_real else "cpu"
    if compute_type not in (supported := {"auto", *ctranslate2.get_supported_compute_types(device)}):
        pytest.skip(f"this card computes in {', '.join(sorted(supported))}")
    began = time.monotonic()
    heard = hear(whisper_base, compute_type, list(speech.values()))
    note(f"Whisper, {compute_type}: time with loading", time.monotonic() - began, "s")
    found = compared(heard, by_the_cpu)
    note_all(note, f"Whisper, {compute_type}, and the CPU's float32", found, len(speech))
    assert found.other_words <= OTHER_WORDS[compute_type]
    assert [t.language for t in heard] == [t.language for t in by_the_cpu]


def test_a_recording_has_the_same_words_alone_and_among_others(
    whisper_base: Path, speech: dict[str, np.ndarray], note: Note
) -> None:
    clips = list(speech.values())
    transcriber = faster_whisper.load(whisper_base, None, TranscribeSettings())
    together = transcriber.transcribe(clips, [None] * len(clips))
    backwards = transcriber.transcribe(clips[::-1], [None] * len(clips))[::-1]
    alone = [transcriber.transcribe([clip], [None])[0] for clip in clips]
    for what, other in (("alone", alone), ("in another order", backwards)):
        found = compared(together, other)
        note_all(note, f"Whisper, together and {what}", found, len(clips))
        assert found.other_words == 0
        assert (found.times <= FRAME + 1e-6).mean() > 0.99


def test_the_states_are_those_of_the_cpu_and_come_as_float32(
    whisper_base: Path, speech: dict[str, np.ndarray], card: Card, note: Note
) -> None:
    compute_type = "float16" if card.is_real else "float32"
    with on_the_cpu():
        whisper = Whisper(whisper_base, "float32")
        features = whisper.features([samples[: 25 * 16_000] for samples in speech.values()])
        cpu = whisper.encode(features)
    whisper = Whisper(whisper_base, compute_type)
    together, alone = whisper.encode(features), [whisper.encode([f])[0] for f in features]
    for what, other in (("from the CPU's float32", cpu), ("alone and in a batch", alone)):
        differ = max(np.linalg.norm(a.states - b.states) / np.linalg.norm(b.states) for a, b in zip(together, other, strict=True))
        note(f"Whisper, {compute_type}: states differ {what} by", float(differ), "of their length")
        assert differ < STATES
    assert {item.states.dtype for item in together} == {np.dtype(np.float32)}
    assert {item.states.shape for item in together} == {item.states.shape for item in cpu}


def test_many_recordings_at_once(whisper_base: Path, corpus: Path, card: Card, note: Note) -> None:
    clips = [np.array(decode(path).samples[:]) for path in sorted(corpus.iterdir())]
    with card.taken() as peak:
        transcriber = faster_whisper.load(whisper_base, None, TranscribeSettings())
        began = time.monotonic()
        transcripts = transcriber.transcribe(clips, [None] * len(clips))
        hours = sum(map(len, clips)) / 16_000 / (time.monotonic() - began)
    note("Whisper-base, auto, all recordings at once: speed", hours, "hours of audio an hour")
    note("Whisper-base, auto: memory of the GPU", peak.gib, "GiB")
    assert sum(len(transcript.words) > 3 for transcript in transcripts) > len(clips) / 2


def test_whisperx_and_an_aligner_hear_what_they_hear_on_the_cpu(
    whisper_base: Path, speech: dict[str, np.ndarray], note: Note, tmp_path: Path
) -> None:
    aligner, settings = save_ctc(tmp_path), TranscribeSettings(transcriber="whisperx", compute_type="float32")
    clips = [samples for name, samples in speech.items() if name.startswith(("good_news", "morgen", "stress", "jfk"))]
    with on_the_cpu():
        cpu = whisperx.load(whisper_base, aligner, settings).transcribe(clips, [None] * len(clips))
    heard = whisperx.load(whisper_base, aligner, settings).transcribe(clips, [None] * len(clips))
    found = compared(heard, cpu)
    note_all(note, "whisperX with a random aligner, float32, and the CPU", found, len(clips))
    assert found.other_words <= OTHER_WORDS["auto"]
    assert all(word.aligned for transcript in heard for word in transcript.words if any(c.isalpha() for c in word.word))

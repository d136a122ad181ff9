"""whisperX: its batched recogniser, and forced alignment where an aligner is given; takes seconds to start."""

from __future__ import annotations

import contextlib
import copy
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.encoders import SAFELY, whole_model
from msfser_cli.backends.languages import Passage, main_language
from msfser_cli.backends.quiet import quiet
from msfser_cli.backends.spelling import UNSPACED
from msfser_cli.backends.spoken import spoken
from msfser_cli.backends.voice_activity import LONGEST_WINDOW, cut, speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import load_whisper, padded_frames
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import (
    LONGEST_ALIGNED,
    align_by_attention,
    continued,
    in_passage,
    interpolated,
    shifted,
)
from msfser_cli.backends.writing import split
from msfser_cli.errors import ModelError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("whisperx",)

BATCH = 8

KEPT = 2
"""So many aligners stay in memory; one of a large model is 1.3 GB."""


class WhisperX:
    """whisperX's recogniser on the shared Whisper; word times from the language's aligner, or from Whisper's attention."""

    def __init__(self, folder: Path, aligner: Path | Mapping[str, Path] | None, beam_size: int) -> None:
        self._whisper = load_whisper(folder)
        with quiet():
            self._recogniser = _batched(self._whisper.model, folder, beam_size)
            self._aligners = _Aligners(aligner or {})

    def transcribe(self, samples: Samples, language: str | None) -> Transcript:
        """Words of `samples`; each passage has a language of its own unless one is given for all."""
        regions = speech_regions(samples, longest=LONGEST_WINDOW)
        if not regions:
            return Transcript(language or "und", None, [], regions)
        if language is None:
            passages = self._passages(samples, regions)
        else:
            passages = [Passage((regions[0][0], regions[-1][1]), language, None)]
        words: list[Word] = []
        for code, run in groupby(passages, key=lambda p: p.language):
            same = list(run)
            inside = [r for r in regions if same[0].span[0] <= r[0] and r[1] <= same[-1].span[1]]
            words = continued(words, [_in_its_passage(w, same) for w in self._words(samples, inside, code)])
        return Transcript(*main_language(passages), words, regions)

    def _passages(self, samples: Samples, regions: list[tuple[float, float]]) -> list[Passage]:
        """Which language is spoken where. It takes an encoding of its own, as whisperX keeps what it encodes to itself."""
        found: list[Passage] = []
        spans = windows(regions, longest=LONGEST_WINDOW)
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            features = [self._whisper.features(cut(samples, span)) for span in batch]
            encoded = self._whisper.encode(features, padded_frames(features))
            before = found[-1].language if found else None
            found += self._whisper.passages(encoded, features, batch, regions, before)
        return found

    def _words(self, samples: Samples, regions: list[tuple[float, float]], language: str) -> list[Word]:
        """What is said in the regions of speech, all in one language."""
        self._recogniser.vad_model.regions = regions
        with quiet():  # of the samples, the recogniser slices a batch of windows at a time
            segments = self._recogniser.transcribe(samples, batch_size=BATCH, language=language)["segments"]
        found = [((s["start"], s["end"]), s["text"]) for s in segments if s["text"].strip()]
        words: list[Word] = []
        if aligner := self._aligners.of(language):
            for span, text in found:
                words = continued(words, [shifted(w, *span) for w in aligner.align(cut(samples, span), text, language)])
            return words
        for first in range(0, len(found), BATCH):
            batch = found[first : first + BATCH]
            for (span, _), timed in zip(batch, self._attended(samples, batch, language), strict=True):
                inside = [r for r in regions if r[0] < span[1] and r[1] > span[0]]
                words = continued(words, [within_speech(shifted(w, *span), inside) for w in timed])
        return words

    def align(self, samples: Samples, text: str, language: str | None) -> Transcript:
        """Times for the words of `text`; interpolated, and marked so, where the clip is over 30 s or not alignable."""
        if not self._aligners:
            return align_by_attention(self._whisper, samples, text, language)
        probability: float | None = None
        if language is None:
            language, probability = self._whisper.detect(samples)
        aligner = self._aligners.of(language)
        if aligner is None:
            return replace(align_by_attention(self._whisper, samples, text, language), language_probability=probability)
        duration = len(samples) / SAMPLE_RATE_HZ
        if duration > LONGEST_ALIGNED:
            return Transcript(language, probability, interpolated(text, 0.0, duration))
        words = [shifted(w, 0.0, duration) for w in aligner.align(samples[:], text, language)]
        return Transcript(language, probability, words)

    def _attended(self, samples: Samples, batch: list[tuple[tuple[float, float], str]], language: str) -> list[list[Word]]:
        """Words within each span, from the attention that Whisper pays when it reads the text along with the audio."""
        features = [self._whisper.features(cut(samples, span)) for span, _ in batch]
        tokens = [self._whisper.tokenizer(language).encode(text) for _, text in batch]
        encoded = self._whisper.encode(features, padded_frames(features))
        return self._whisper.word_times(encoded, tokens, [f.shape[1] for f in features], language)


def _in_its_passage(word: Word, passages: list[Passage]) -> Word:
    """`word` with the language of the passage in which it begins, or that it is nearest to."""
    return in_passage(word, min(passages, key=lambda p: max(p.span[0] - word.start, word.start - p.span[1], 0.0)))


class _Aligners:
    """An aligner for all languages, or one for each of some. Weights are read when they are needed, and few are kept."""

    def __init__(self, folders: Path | Mapping[str, Path]) -> None:
        self._all = _Aligner(folders) if isinstance(folders, Path) else None
        self._each = {} if isinstance(folders, Path) else {language: _Aligner(folder) for language, folder in folders.items()}
        self._used: OrderedDict[str, _Aligner] = OrderedDict()
        if self._all:
            self._all.load()

    def __bool__(self) -> bool:
        return bool(self._all or self._each)

    def of(self, language: str) -> _Aligner | None:
        """The one for `language`, ready to align; None where there is none."""
        if self._all:
            return self._all
        if aligner := self._each.get(language):
            self._used[language] = aligner
            self._used.move_to_end(language)
            for other in list(self._used)[:-KEPT]:
                self._used.pop(other).unload()
            aligner.load()
        return aligner


class _Aligner:
    """A wav2vec 2.0 CTC model in a folder, with whisperX's search for the best path. Its weights are read by `load`."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, Wav2Vec2CTCTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()  # parts that serve training only are no news
        self._folder = folder
        self._model: Any = None
        with self._reading():
            kind = AutoConfig.from_pretrained(folder, **SAFELY).model_type
            if kind != "wav2vec2":
                raise ValueError(f"it is of the kind {kind}")
            if not (folder / "model.safetensors").exists():
                raise OSError("no model.safetensors")
            vocabulary = Wav2Vec2CTCTokenizer.from_pretrained(folder, **SAFELY).get_vocab()
        self._vocabulary = {token.lower(): number for token, number in vocabulary.items()}
        self._letters = {token for token in self._vocabulary if len(token) == 1} - {"|"}

    def load(self) -> None:
        """Read the weights, unless that was done. ModelError where they are not what they should be."""
        if self._model is not None:
            return
        import torch
        from transformers import Wav2Vec2ForCTC

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet(), self._reading():
            self._model = whole_model(Wav2Vec2ForCTC, self._folder, use_safetensors=True).eval().to(self._device)

    def unload(self) -> None:
        """Let go of the weights."""
        self._model = None

    def align(self, samples: np.ndarray, text: str, language: str) -> list[Word]:
        """Words of `text` with their times in `samples`.

        Numbers are looked for as they are said, and letters that the model lacks without their accents. A word of which it knows
        nothing gets times between its neighbours (whisperX's wildcard) and is marked as not aligned. So are all words of a text
        too long for the audio, spread over it.
        """
        from whisperx import alignment

        words = split(text)
        # Whatever else a word has, such as punctuation, would be searched for as a sound and found in the pause behind it.
        known = [[letters for said in spoken(word, language) if (letters := self._known(said))] for _, word in words]
        pieces = [letters or ["".join(word.split())] for letters, (_, word) in zip(known, words, strict=True)]
        unspaced = language in UNSPACED
        if unspaced:  # where whisperX takes each character for a word
            pieces = [list("".join(letters)) for letters in pieces]
        flat = [piece for of_word in pieces for piece in of_word]
        duration = len(samples) / SAMPLE_RATE_HZ
        segment = {"text": ("" if unspaced else " ").join(flat), "start": 0.0, "end": duration}
        metadata = {"language": "zh" if unspaced else language, "dictionary": self._vocabulary, "type": "huggingface"}
        with quiet(), _whole_texts(alignment):
            timed = alignment.align([segment], self._model, metadata, samples, self._device)["word_segments"]
        if [t["word"] for t in timed] != flat:
            return interpolated(text, 0.0, duration)
        rest = iter(timed)
        return [
            _word(blank, word, list(islice(rest, len(of_word))), aligned=bool(letters))
            for (blank, word), letters, of_word in zip(words, known, pieces, strict=True)
        ]

    def _known(self, text: str) -> str:
        """The letters of `text` that the model knows, in lower case; for one that it lacks, those that it is made of."""
        found = ""
        for letter in text.lower().replace("’", "'"):
            parts = letter if letter in self._letters else unicodedata.normalize("NFKD", letter.casefold())
            found += "".join(part for part in parts if part in self._letters)
        return found

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{self._folder}: not a wav2vec 2.0 CTC model: it needs config.json, model.safetensors and vocab.json ({error})"
            ) from error


def _word(blank: str, word: str, pieces: list[dict[str, Any]], *, aligned: bool) -> Word:
    """`word`, after `blank`, from the first to the last of what is said for it."""
    score = float(np.average([p["score"] for p in pieces], weights=[len(p["word"]) for p in pieces])) if aligned else None
    return Word(word, float(pieces[0]["start"]), float(pieces[-1]["end"]), score, aligned=aligned, blank=blank)


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> WhisperX:
    """The recogniser on the CTranslate2 Whisper model in `folder`, and wav2vec 2.0 CTC models: one for all, or one a language.

    ModelError if a folder holds something else, UsageError for an unknown language.
    """
    transcriber = WhisperX(folder, aligner, settings.beam_size)
    load_whisper(folder).require(settings.language)
    return transcriber


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows; None if its files do not say it."""
    return known_languages(folder)


def _batched(model: Any, folder: Path, beam_size: int) -> Any:
    """whisperX's pipeline on the loaded faster-whisper `model`, with our voice activity instead of one it would fetch."""
    from whisperx import asr
    from whisperx.diarize import Segment
    from whisperx.vads import Vad

    class Regions(Vad):  # type: ignore[misc]
        """Hands over the regions of speech found beforehand; packing them into windows is left to whisperX."""

        regions: list[tuple[float, float]]

        def __call__(self, audio: Any) -> list[Any]:
            return [Segment(*region) for region in self.regions]

    # whisperX's model differs from faster-whisper's in methods only, so that the same weights serve both.
    shared = copy.copy(model)
    shared.__class__ = asr.WhisperModel
    options = {"beam_size": beam_size}
    return asr.load_model(str(folder), shared.model.device, model=shared, vad_model=Regions(0.5), asr_options=options)


@contextlib.contextmanager
def _whole_texts(alignment: Any) -> Iterator[None]:
    """Keep whisperX from downloading a sentence splitter: utterances are cut later, from the times of the words."""

    class Whole:
        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    loader, alignment.nltk_load = alignment.nltk_load, lambda _: Whole()
    try:
        yield
    finally:
        alignment.nltk_load = loader

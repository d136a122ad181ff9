"""whisperX: batched recognition, and forced alignment if an aligner is given; takes seconds to start."""

from __future__ import annotations

import contextlib
import copy
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.languages import Passage, main_language
from msfser_cli.backends.loading import SAFELY, loading, whole_model
from msfser_cli.backends.quiet import quiet
from msfser_cli.backends.spelling import UNSPACED
from msfser_cli.backends.spoken import spoken
from msfser_cli.backends.voice_activity import cut, speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import UNLIKELY, Stretch, load_whisper
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import LONGEST_ALIGNED, align_by_attention, continued, in_passage, interpolated, shifted
from msfser_cli.backends.writing import split
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("whisperx",)

BATCH = 8

LONGEST_WINDOW = 28.0
"""Seconds. whisperX pads each window to Whisper's 30, so shorter ones take longer."""

KEPT = 2
"""The number of aligners that stay in memory. One of a large model takes 1.3 GB."""

_PROBLEM = "not a wav2vec 2.0 CTC model with its config.json, model.safetensors and vocab.json"


class WhisperX:
    """whisperX's recogniser on the shared Whisper; word times from the language's aligner, or from Whisper's attention."""

    def __init__(self, folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> None:
        self._whisper = load_whisper(folder, settings.compute_type)
        self._beam_size = settings.beam_size
        with quiet():
            self._recogniser = _batched(self._whisper.model, folder, settings.beam_size)
            self._aligners = _Aligners(aligner or {})
        self._whisper.require(settings.language)

    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """The words of each clip. The language is detected for each passage, unless it is given."""
        return [self._transcribed(samples, language) for samples, language in zip(clips, languages, strict=True)]

    def _transcribed(self, samples: Samples, language: str | None) -> Transcript:
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
        """The passages of one language each. This encodes the audio once more, because whisperX does not pass on its encoding."""
        passages: list[Passage] = []
        spans = windows(regions, longest=LONGEST_WINDOW)
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            before = passages[-1].language if passages else None
            passages += self._whisper.passages([Stretch(samples, batch, regions, before)])[0]
        return passages

    def _words(self, samples: Samples, regions: list[tuple[float, float]], language: str) -> list[Word]:
        """The words in the regions of speech, all in one language."""
        self._recogniser.vad_model.regions = regions
        with quiet():  # the recogniser slices the samples of one batch of windows at a time
            segments = self._recogniser.transcribe(samples, batch_size=BATCH, language=language)["segments"]
        doubted = [s for s in segments if s["avg_logprob"] < UNLIKELY and self._is_invented(samples, s, language)]
        texts = [((s["start"], s["end"]), s["text"]) for s in segments if s["text"].strip() and s not in doubted]
        words: list[Word] = []
        if aligner := self._aligners.of(language):
            for span, text in texts:
                words = continued(words, [shifted(w, *span) for w in aligner.align(cut(samples, span), text, language)])
            return words
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            for (span, _), timed in zip(batch, self._attended(samples, batch, language), strict=True):
                inside = [r for r in regions if r[0] < span[1] and r[1] > span[0]]
                words = continued(words, [within_speech(shifted(w, *span), inside) for w in timed])
        return words

    def _is_invented(self, samples: Samples, segment: Mapping[str, Any], language: str) -> bool:
        """Whether Whisper itself believes that nobody speaks in the segment. whisperX's recogniser does not say it."""
        encoded = self._whisper.encode(self._whisper.features([cut(samples, (segment["start"], segment["end"]))]))
        return self._whisper.decode(encoded, [language], beam_size=self._beam_size)[0].is_invented

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        """Times for the words of each text.

        If a clip is over 30 s or cannot be aligned, the times are interpolated, and the words marked as not aligned.
        """
        return [self._aligned(*asked) for asked in zip(clips, texts, languages, strict=True)]

    def _aligned(self, samples: Samples, text: str, language: str | None) -> Transcript:
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
        """The words within each span, with times from Whisper's attention to the audio as it reads the text."""
        encoded = self._whisper.encode(self._whisper.features([cut(samples, span) for span, _ in batch]))
        return self._whisper.word_times(encoded, [self._whisper.tokenizer(language).encode(text) for _, text in batch], language)


def _in_its_passage(word: Word, passages: list[Passage]) -> Word:
    """`word` with the language of the passage in which it begins, or else of the nearest passage."""
    return in_passage(word, min(passages, key=lambda p: max(p.span[0] - word.start, word.start - p.span[1], 0.0)))


class _Aligners:
    """One aligner for all languages, or one for each of some languages.

    Weights for a single language are read on its first use. Those of the last `KEPT` languages stay in memory.
    """

    def __init__(self, folders: Path | Mapping[str, Path]) -> None:
        self._all = _Aligner(folders) if isinstance(folders, Path) else None
        self._each = {} if isinstance(folders, Path) else {language: _Aligner(folder) for language, folder in folders.items()}
        self._used: OrderedDict[str, _Aligner] = OrderedDict()
        if self._all:
            self._all.load()

    def __bool__(self) -> bool:
        return bool(self._all or self._each)

    def of(self, language: str) -> _Aligner | None:
        """The aligner for `language`, with its weights loaded. None if the language has no aligner."""
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
    """A wav2vec 2.0 CTC model in a folder, with whisperX's search for the best path. `load` reads its weights."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, Wav2Vec2CTCTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()  # or it warns about weights that only training needs
        self._folder = folder
        self._model: Any = None
        with loading(folder, _PROBLEM):
            kind = AutoConfig.from_pretrained(folder, **SAFELY).model_type
            if kind != "wav2vec2":
                raise ValueError(f"its model_type is {kind}, not wav2vec2")
            if not (folder / "model.safetensors").exists():
                raise OSError("model.safetensors is missing")
            vocabulary = Wav2Vec2CTCTokenizer.from_pretrained(folder, **SAFELY).get_vocab()
        self._vocabulary = {token.lower(): number for token, number in vocabulary.items()}
        self._letters = {token for token in self._vocabulary if len(token) == 1} - {"|"}

    def load(self) -> None:
        """Read the weights, unless they are in memory. Raises ModelError if they are damaged or of another model."""
        if self._model is not None:
            return
        import torch
        from transformers import Wav2Vec2ForCTC

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet(), loading(self._folder, _PROBLEM):
            self._model = whole_model(Wav2Vec2ForCTC, self._folder, use_safetensors=True).eval().to(self._device)

    def unload(self) -> None:
        """Release the weights."""
        self._model = None

    def align(self, samples: np.ndarray, text: str, language: str) -> list[Word]:
        """The words of `text` with their times in `samples`.

        Numbers are aligned as they are spoken. A letter that the model's vocabulary lacks is aligned without its accent. A word
        without any letter of the vocabulary gets times between its neighbours (whisperX's wildcard), and is marked as not
        aligned. If the text is too long for the audio, all words are spread over the audio, and marked in the same way.
        """
        from whisperx import alignment

        words = split(text)
        # Only letters of the vocabulary: whisperX would align punctuation as a sound, and place it in the pause after the word.
        alignable = [[letters for said in spoken(word, language) if (letters := self._alignable(said))] for _, word in words]
        pieces = [letters or ["".join(word.split())] for letters, (_, word) in zip(alignable, words, strict=True)]
        unspaced = language in UNSPACED
        if unspaced:  # whisperX treats each character as a word here
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
            for (blank, word), letters, of_word in zip(words, alignable, pieces, strict=True)
        ]

    def _alignable(self, text: str) -> str:
        """The letters of `text` that the vocabulary has, in lower case. Any other letter is decomposed, such as é into e."""
        letters = ""
        for letter in text.lower().replace("’", "'"):
            parts = letter if letter in self._letters else unicodedata.normalize("NFKD", letter.casefold())
            letters += "".join(part for part in parts if part in self._letters)
        return letters


def _word(blank: str, word: str, pieces: list[dict[str, Any]], *, aligned: bool) -> Word:
    """`word`, after `blank`, from the start of its first spoken piece to the end of its last."""
    score = float(np.average([p["score"] for p in pieces], weights=[len(p["word"]) for p in pieces])) if aligned else None
    return Word(word, float(pieces[0]["start"]), float(pieces[-1]["end"]), score, aligned=aligned, blank=blank)


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> WhisperX:
    """The recogniser on the CTranslate2 Whisper model in `folder`.

    aligner: the folder of a wav2vec 2.0 CTC model for all languages, or one folder for each language. Raises ModelError if a
    folder holds another kind of model, UsageError if Whisper does not know the language.
    """
    return WhisperX(folder, aligner, settings)


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows. None if its files do not list them."""
    return known_languages(folder)


def _batched(model: Any, folder: Path, beam_size: int) -> Any:
    """whisperX's pipeline on the loaded faster-whisper `model`. It uses msfser's voice activity, so it downloads no detector."""
    from whisperx import asr
    from whisperx.diarize import Segment
    from whisperx.vads import Vad

    class Regions(Vad):  # type: ignore[misc]
        """Returns the regions of speech that msfser detected. whisperX joins them into windows."""

        regions: list[tuple[float, float]]

        def __call__(self, audio: Any) -> list[Any]:
            return [Segment(*region) for region in self.regions]

    # whisperX's model differs from faster-whisper's only in its methods, so both can share the weights.
    shared = copy.copy(model)
    shared.__class__ = asr.WhisperModel
    options = {"beam_size": beam_size}
    return asr.load_model(str(folder), shared.model.device, model=shared, vad_model=Regions(0.5), asr_options=options)


@contextlib.contextmanager
def _whole_texts(alignment: Any) -> Iterator[None]:
    """Keep whisperX from downloading a sentence splitter. msfser cuts utterances later, from the times of the words."""

    class Whole:
        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    loader, alignment.nltk_load = alignment.nltk_load, lambda _: Whole()
    try:
        yield
    finally:
        alignment.nltk_load = loader

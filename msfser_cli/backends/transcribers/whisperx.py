"""whisperX: its batched recogniser, and forced alignment where an aligner is given; takes seconds to start."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.encoders import whole_model
from msfser_cli.backends.spelling import UNSPACED
from msfser_cli.backends.voice_activity import LONGEST_WINDOW, cut, speech_regions, within_speech
from msfser_cli.backends.whisper_ct2 import load_whisper, padded_frames
from msfser_cli.backends.word_times import LONGEST_ALIGNED, align_by_attention, interpolated, regrouped, shifted
from msfser_cli.errors import ModelError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("whisperx",)

BATCH = 8

# whisperX imports pyannote, which reports its use over the network unless told not to before it is imported.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
# Unless it finds a handler, whisperX makes one that writes to stdout, where the data go.
logging.getLogger("whisperx").addHandler(logging.NullHandler())


class WhisperX:
    """whisperX's recogniser on the shared Whisper; word times from the aligner, or from Whisper's attention without one."""

    def __init__(self, folder: Path, aligner: Path | None, beam_size: int) -> None:
        self._whisper = load_whisper(folder)
        with _quiet():
            self._recogniser = _batched(self._whisper.model, folder, beam_size)
            self._aligner = None if aligner is None else _Aligner(aligner)

    def transcribe(self, samples: Samples, language: str | None) -> Transcript:
        """Words of `samples`; its language, unless given, is that of the 30 s from the first voice on."""
        regions = speech_regions(samples, longest=LONGEST_WINDOW)
        if not regions:
            return Transcript(language or "und", None, [], False)
        probability: float | None = None
        if language is None:
            language, probability = self._whisper.detect(cut(samples, (regions[0][0], regions[0][0] + 30)))
        self._recogniser.vad_model.regions = regions
        with _quiet():  # of the samples, the recogniser slices a batch of windows at a time
            segments = self._recogniser.transcribe(samples, batch_size=BATCH, language=language)["segments"]
        found = [((s["start"], s["end"]), s["text"]) for s in segments if s["text"].strip()]
        words: list[Word] = []
        if self._aligner:
            for span, text in found:
                words += [shifted(w, *span) for w in self._aligner.align(cut(samples, span), text, language)]
            return Transcript(language, probability, words, True)
        for first in range(0, len(found), BATCH):
            batch = found[first : first + BATCH]
            for (span, _), timed in zip(batch, self._attended(samples, batch, language), strict=True):
                inside = [r for r in regions if r[0] < span[1] and r[1] > span[0]]
                words += [within_speech(shifted(w, *span), inside) for w in timed]
        return Transcript(language, probability, words, True)

    def align(self, samples: Samples, text: str, language: str | None) -> Transcript:
        """Times for the words of `text.split()`; interpolated, and marked so, where the clip is over 30 s or not alignable."""
        if self._aligner is None:
            return align_by_attention(self._whisper, samples, text, language)
        probability: float | None = None
        if language is None:
            language, probability = self._whisper.detect(samples)
        duration = len(samples) / SAMPLE_RATE_HZ
        if duration > LONGEST_ALIGNED:
            return Transcript(language, probability, interpolated(text.split(), 0.0, duration), True)
        words = regrouped(self._aligner.align(samples[:], text, language), text.split())
        return Transcript(language, probability, [shifted(w, 0.0, duration) for w in words], True)

    def _attended(self, samples: Samples, batch: list[tuple[tuple[float, float], str]], language: str) -> list[list[Word]]:
        """Words within each span, from the attention that Whisper pays when it reads the text along with the audio."""
        features = [self._whisper.features(cut(samples, span)) for span, _ in batch]
        tokens = [self._whisper.tokenizer(language).encode(text) for _, text in batch]
        encoded = self._whisper.encode(features, padded_frames(features))
        return self._whisper.word_times(encoded, tokens, [f.shape[1] for f in features], language)


class _Aligner:
    """A wav2vec 2.0 CTC model in a folder, with whisperX's search for the best path."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()  # parts that serve training only are no news
        try:
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder, local_files_only=True)
            model = whole_model(Wav2Vec2ForCTC, folder, use_safetensors=True)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: not a wav2vec 2.0 CTC model: it needs config.json, model.safetensors and vocab.json ({error})"
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        self._vocabulary = {token.lower(): number for token, number in tokenizer.get_vocab().items()}
        self._letters = {token for token in self._vocabulary if len(token) == 1} - {"|"}

    def align(self, samples: np.ndarray, text: str, language: str) -> list[Word]:
        """Words of `text` with their times in `samples`: single characters in a language written without spaces.

        A word of which the model knows no letter gets times between its neighbours (whisperX's wildcard) and is marked as not
        aligned. So are all words of a text too long for the audio, spread over it.
        """
        from whisperx import alignment

        unspaced = language in UNSPACED
        words = list("".join(text.split())) if unspaced else text.split()
        known = ["".join(c for c in word if c.lower() in self._letters) for word in words]
        # Whatever else a word has, such as punctuation, would be searched for as a sound and found in the pause behind it.
        spoken = [letters or word for letters, word in zip(known, words, strict=True)]
        duration = len(samples) / SAMPLE_RATE_HZ
        segment = {"text": ("" if unspaced else " ").join(spoken), "start": 0.0, "end": duration}
        metadata = {"language": "zh" if unspaced else language, "dictionary": self._vocabulary, "type": "huggingface"}
        with _quiet(), _whole_texts(alignment):
            found = alignment.align([segment], self._model, metadata, samples, self._device)["word_segments"]
        if [f["word"] for f in found] != spoken:
            return interpolated(words, 0.0, duration)
        return [
            Word(word, float(f["start"]), float(f["end"]), float(f["score"]) if letters else None, aligned=bool(letters))
            for word, letters, f in zip(words, known, found, strict=True)
        ]


def load(folder: Path, aligner: Path | None, settings: TranscribeSettings) -> WhisperX:
    """The recogniser on the CTranslate2 Whisper model in `folder`, and the wav2vec 2.0 CTC model in `aligner` if given.

    ModelError if `aligner` holds something else, UsageError for an unknown language.
    """
    transcriber = WhisperX(folder, aligner, settings.beam_size)
    load_whisper(folder).require(settings.language)
    return transcriber


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What whisperX and its imports print and warn of goes to stderr when debugging, and nowhere otherwise."""
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr if debugging else io.StringIO()):
        if not debugging:
            warnings.simplefilter("ignore")
        yield

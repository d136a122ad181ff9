"""Whisper on CTranslate2 (faster-whisper): starts fast and needs no torch; word times from the model's own attention."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msfser_cli import processors
from msfser_cli.backends import Transcript, Word, text_of
from msfser_cli.backends.languages import Passage, Span, main_language
from msfser_cli.backends.voice_activity import speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import Decoded, Encoded, Stretch, load_whisper
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import align_by_attention, continued, in_passage, shifted
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("faster_whisper", "ctranslate2", "onnxruntime")

LONGEST_WINDOW = 14.0
"""Seconds. In longer windows Whisper leaves out whole sentences more often, and its attention costs more.

Measured on 99 recordings of many sentences each, against windows of 28 s: the word error rate is .050 and not .104 for readers
in turn, and .097 and not .095 for acted English; for acted German and synthetic voices no difference is clear.
"""
STRETCH = 32
"""Windows of one recording. Their languages are judged together."""
TOGETHER = 64
"""The most windows whose encoder states are in memory."""
UNHEARD, MARGIN, LONGEST_WORD = 1.5, 0.3, 1.0
"""Seconds. The least speech without words that is heard again, what a region has of silence at its ends, and the longest word."""
REPETITIVE = 2.4
"""Text that zlib compresses by more than this factor is a loop (OpenAI's own threshold).

msfser then decodes the window again, padded to 30 s and without repeats of four tokens.
"""
BEYOND = 3
"""At least so many words without length at the end of a window are a loop too: there, Whisper says a sentence once more."""


@dataclass
class _Clip:
    """A clip, and what was heard of it so far. language: None: it is detected for each passage."""

    samples: Samples
    language: str | None
    regions: list[Span]
    windows: list[Span]
    passages: list[Passage] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def stretch(self, first: int) -> Stretch:
        """The next windows, from the one with the number `first`."""
        before = self.passages[-1].language if self.passages else None
        return Stretch(self.samples, self.windows[first : first + STRETCH], self.regions, before)

    @property
    def transcript(self) -> Transcript:
        language, probability = main_language(self.passages) if self.passages else (self.language or "und", None)
        return Transcript(language, probability, self.words, self.regions)


class FasterWhisper:
    """Encodes each window once for language detection, decoding and word times. Windows of all clips are batched together."""

    def __init__(self, folder: Path, settings: TranscribeSettings) -> None:
        self._whisper = load_whisper(folder, settings.compute_type, processors.threads())
        self._whisper.require(settings.language)
        self._beam_size = settings.beam_size

    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """The words of each clip. The language is detected for each passage, unless it is given."""
        heard = []
        for samples, language in zip(clips, languages, strict=True):
            regions = speech_regions(samples, longest=LONGEST_WINDOW)
            heard.append(_Clip(samples, language, regions, windows(regions, longest=LONGEST_WINDOW)))
        for first in range(0, max((len(clip.windows) for clip in heard), default=0), STRETCH):
            rest = [clip for clip in heard if first < len(clip.windows)]
            for few in range(0, len(rest), TOGETHER // STRETCH):
                self._hear(rest[few : few + TOGETHER // STRETCH], first)
        return [clip.transcript for clip in heard]

    def _hear(self, clips: Sequence[_Clip], first: int) -> None:
        """Add the passages and the words of the windows `first` to `first + STRETCH` to each clip."""
        stretches = [clip.stretch(first) for clip in clips]
        detected = iter(self._whisper.passages([s for s, clip in zip(stretches, clips, strict=True) if clip.language is None]))
        heard: list[tuple[_Clip, Stretch, Passage]] = []
        for clip, stretch in zip(clips, stretches, strict=True):
            known = clip.language
            passages = next(detected) if known is None else [Passage(span, known, None) for span in stretch.windows]
            heard += [(clip, stretch, passage) for passage in passages]
        said = self._words([(stretch, passage.span, passage.language) for _, stretch, passage in heard])
        for (clip, _, passage), words in zip(heard, said, strict=True):
            clip.words = continued(clip.words, [in_passage(word, passage) for word in words])
            clip.passages.append(passage)

    def _words(self, spoken: Sequence[tuple[Stretch, Span, str]]) -> list[list[Word]]:
        """The words of each span of a stretch in its language, with times in seconds from the start of the recording.

        If Whisper left out speech, both halves of the span are heard by themselves.
        """
        encoded = self._whisper.hear([(stretch, span) for stretch, span, _ in spoken])
        timed = self._decoded(encoded, [language for _, _, language in spoken])
        words, halves = [], {}
        for i, ((stretch, span, _), of_span) in enumerate(zip(spoken, timed, strict=True)):
            regions = stretch.within(span)
            words.append([within_speech(shifted(word, *span), regions) for word in of_span])
            if of_span and len(regions) > 1 and unheard(regions, words[i]) > UNHEARD:
                halves[i] = halved(regions)
        if halves:
            anew = iter(self._words([(spoken[i][0], half, spoken[i][2]) for i, both in halves.items() for half in both]))
            for i in halves:
                first, second = next(anew), next(anew)
                if len(first) + len(second) > len(words[i]):
                    words[i] = continued(first, second)
        return words

    def _decoded(self, encoded: Sequence[Encoded], languages: Sequence[str]) -> list[list[Word]]:
        """The words of each item, with times in seconds from the start of the item."""
        decoded = self._whisper.decode(encoded, languages, beam_size=self._beam_size)
        words: list[list[Word]] = [[] for _ in encoded]
        for language in sorted(set(languages)):
            spoken = [i for i, other in enumerate(languages) if other == language]
            timed = self._whisper.word_times([encoded[i] for i in spoken], [decoded[i].tokens for i in spoken], language)
            for i, of_item in zip(spoken, timed, strict=True):
                words[i] = of_item
        for i, of_item in enumerate(words):
            if _repeats(of_item):
                decoded[i], words[i] = self._again(encoded[i], languages[i])
        return [[] if result.is_invented else of_item for result, of_item in zip(decoded, words, strict=True)]

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        """Times for the words of each text.

        If a clip is over 30 s or its text is too long, the times are interpolated, and the words marked as not aligned.
        """
        asked = zip(clips, texts, languages, strict=True)
        return [align_by_attention(self._whisper, samples, text, language) for samples, text, language in asked]

    def _again(self, item: Encoded, language: str) -> tuple[Decoded, list[Word]]:
        encoded = self._whisper.encode([item.features], to_30_s=True)
        [result] = self._whisper.decode(encoded, [language], beam_size=self._beam_size, no_repeat=4)
        [words] = self._whisper.word_times(encoded, [result.tokens], language)
        return result, words


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> FasterWhisper:
    """The recogniser on the CTranslate2 Whisper model in `folder`. It takes word times from Whisper itself.

    Raises UsageError if an aligner is given, or if Whisper does not know the language.
    """
    if aligner is not None:
        raise UsageError("the transcriber faster-whisper uses no aligner; use --transcriber whisperx, or --aligner ''")
    return FasterWhisper(folder, settings)


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows. None if its files do not list them."""
    return known_languages(folder)


def unheard(regions: Sequence[Span], words: Sequence[Word]) -> float:
    """The seconds of speech without words. When Whisper leaves out a sentence, a word beside it lasts as long as the sentence."""
    speech = sum(max(0.0, end - start - MARGIN) for start, end in regions)
    return speech - sum(min(word.end - word.start, LONGEST_WORD) for word in words)


def halved(regions: Sequence[Span]) -> list[Span]:
    """Two spans, the first and the second half of the regions, cut at the pause nearest to the middle."""
    start, end = regions[0][0], regions[-1][1]
    cut = min(range(1, len(regions)), key=lambda i: abs(regions[i - 1][1] + regions[i][0] - start - end))
    return [(start, regions[cut - 1][1]), (regions[cut][0], end)]


def _repeats(words: Sequence[Word]) -> bool:
    """Whether the decoder was in a loop."""
    text = text_of(words).encode()
    if text and len(text) / len(zlib.compress(text)) > REPETITIVE:
        return True
    return len(words) >= BEYOND and all(word.end <= word.start for word in words[-BEYOND:])

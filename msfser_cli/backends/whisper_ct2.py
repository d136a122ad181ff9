"""Whisper on CTranslate2, loaded once and shared by recognition and word alignment."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli import processors
from msfser_cli.backends import Word
from msfser_cli.backends.languages import Judged, Passage, Span, likeliest, parts, passages, settled
from msfser_cli.backends.writing import is_said, split
from msfser_cli.errors import ModelError, UsageError, is_shortage
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

FRAMES_PER_SECOND = 100
MAX_FRAMES = 30 * FRAMES_PER_SECOND
"""The longest stretch that Whisper's encoder takes: 30 s of log-mel frames."""

MAX_TOKENS = 443
"""Text tokens that the decoder reads at once: its 448 positions less those of the prompt and of the end."""
SHORTEST_PADDED, SILENCE_AFTER = 10.0, 1.0
"""A clip decoded at its own length repeats itself; with so much silence after it, and at least so long, it does not."""

_INCOMPLETE = "\ufffd"
"""What a character is decoded to as long as some of its bytes are in tokens to come."""
_MEDIAN_FILTER = 7
"""Frames over which attention is smoothed before times are read from it: OpenAI's own."""
_STATES_PER_SECOND = FRAMES_PER_SECOND / 2
"""Of the encoder: it makes one state of two log-mel frames."""


class Whisper:
    """A loaded model: log-mel features, encoder states, language, tokens, and word times, each computed once and passed on."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        device, precision = _device()
        # Not int8 on a CPU: its rounding turns the last digit of a feature, which depends on the machine and its threads, into a
        # visible difference of the acoustic vector; and with two threads it is no faster. More threads than cores are slower.
        self._model: Any = WhisperModel(
            str(folder),
            device=device,
            compute_type=precision,
            cpu_threads=0 if "OMP_NUM_THREADS" in os.environ else min(4, processors.available()),
            local_files_only=True,
        )
        if device == "cuda":
            self._try()

    @property
    def model(self) -> Any:
        """The faster-whisper model, whose weights whisperX's recogniser shares."""
        return self._model

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel frames of `samples` (float32 [n], 16 kHz): float32 [mels, n / 160], normalised to the loudest frame."""
        return log_mel(self._model.feature_extractor, samples)

    def encode(self, features: Sequence[np.ndarray], frames: int) -> Any:
        """Encoder states of a batch, each item padded with silence to `frames` (even, at most MAX_FRAMES)."""
        batch = np.stack([np.pad(f[:, :frames], ((0, 0), (0, max(0, frames - f.shape[1])))) for f in features])
        return self._model.encode(batch)

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """The probability of each language in each item of a batch."""
        results = self._model.model.detect_language(encoded)
        return [{token.strip("<|>"): float(probability) for token, probability in item} for item in results]

    def passages(
        self, encoded: Any, features: Sequence[np.ndarray], windows: Sequence[Span], regions: Sequence[Span], before: str | None
    ) -> list[Passage]:
        """The encoded windows of a batch in passages of one language each. Times are in seconds.

        regions: where somebody speaks. before: the language of what precedes the windows, None at the start.
        """
        import ctranslate2

        states = np.asarray(encoded.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))
        heard: list[list[Judged]] = []
        for state, (start, end) in zip(states, windows, strict=True):
            spans = parts([r for r in regions if start <= r[0] and r[1] <= end])
            heard.append([])
            for first, last in spans:
                own = state[round((first - start) * _STATES_PER_SECOND) : max(round((last - start) * _STATES_PER_SECOND), 1)]
                own = np.ascontiguousarray(own if len(spans) > 1 else state)[np.newaxis]
                [probabilities] = self.languages(ctranslate2.StorageView.from_array(own))
                heard[-1].append(Judged((first, last), probabilities))
        spoken = settled([part for of_window in heard for part in of_window], before)
        if len({*spoken, before or spoken[0]}) > 1:
            # States were encoded at another position than the decoder takes them for. Sometimes that makes another language of
            # them, so a change is believed only where the parts, encoded by themselves, show it.
            heard = [
                [Judged(part.span, self._language_alone(frames, start, part.span)) for part in of_window]
                for frames, (start, _), of_window in zip(features, windows, heard, strict=True)
            ]
        return passages(heard, before)

    def _language_alone(self, features: np.ndarray, start: float, span: Span) -> dict[str, float]:
        """The probability of each language in `span`, encoded by itself. `features` are those of a window from `start` on."""
        first, last = (round((time - start) * FRAMES_PER_SECOND) for time in span)
        own = features[:, first : max(last, first + 2)]
        return self.languages(self.encode([own], padded_frames([own])))[0]

    def detect(self, samples: Samples) -> tuple[str, float]:
        """The language of the first 30 s of `samples`, and its probability."""
        features = self.features(samples[: 30 * SAMPLE_RATE_HZ])
        [probabilities] = self.languages(self.encode([features], padded_frames([features])))
        return likeliest(probabilities)

    @property
    def multilingual(self) -> bool:
        """Whether the model knows more than English."""
        return bool(self._model.model.is_multilingual)

    @functools.lru_cache(maxsize=128)  # noqa: B019 - one Whisper lives as long as the process
    def tokenizer(self, language: str) -> Any:
        """The tokenizer that prompts for `language`; ValueError for a language that Whisper does not know."""
        from faster_whisper.tokenizer import Tokenizer

        return Tokenizer(self._model.hf_tokenizer, self.multilingual, task="transcribe", language=language)

    def require(self, language: str | None) -> None:
        """UsageError for a language that Whisper does not know."""
        try:
            self.tokenizer(language or "en")
        except ValueError as error:
            raise UsageError(f"language must be one that Whisper knows, such as en, not {language!r}") from error

    def decode(self, encoded: Any, count: int, language: str, *, beam_size: int, no_repeat: int = 0) -> list[Decoded]:
        """The most likely tokens of each of `count` items, by beam search without sampling."""
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizer = self.tokenizer(language)
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True)
        results = self._model.model.generate(
            encoded,
            [prompt] * count,
            beam_size=beam_size,
            max_length=self._model.max_length,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            no_repeat_ngram_size=no_repeat,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            Decoded([t for t in r.sequences_ids[0] if t < tokenizer.eot], float(r.scores[0]), float(r.no_speech_prob))
            for r in results
        ]

    def word_times(self, encoded: Any, tokens: list[list[int]], frames: list[int], language: str) -> list[list[Word]]:
        """Words and their times within each item, from the decoder's cross-attention; `frames` are the real ones.

        The words are those of the text that the tokens decode to, however many tokens a word has. A word lasts from its first to
        its last token that is heard: the time of punctuation is that of the pause.
        """
        # A decoder caught in a loop writes more than it can read again; what is over gets no times, and so no words.
        tokens = [t[:MAX_TOKENS] for t in tokens]
        tokenizer = self.tokenizer(language)
        results = self._model.model.align(encoded, tokenizer.sot_sequence, tokens, frames, median_filter_width=_MEDIAN_FILTER)
        return [_timed(tokenizer, t, result) if t else [] for t, result in zip(tokens, results, strict=True)]

    def _try(self) -> None:
        """Encode silence: ModelError where the GPU cannot, such as for want of a library. It would fail on each recording."""
        try:
            self.encode([self.features(np.zeros(SAMPLE_RATE_HZ, np.float32))], FRAMES_PER_SECOND)
        except RuntimeError as error:
            if is_shortage(error):
                raise
            raise ModelError(
                f"Whisper cannot run on the GPU: {error}; install what is missing, or run with CUDA_VISIBLE_DEVICES= on the CPU"
            ) from error


class Decoded:
    """Text tokens of one item, the mean log-probability per token, and the probability that nobody spoke."""

    __slots__ = ("log_probability", "no_speech", "tokens")

    def __init__(self, tokens: list[int], log_probability: float, no_speech: float) -> None:
        self.tokens = tokens
        self.log_probability = log_probability
        self.no_speech = no_speech


def _device() -> tuple[str, str]:
    """Where CTranslate2 computes, and in which precision: on a GPU if there is one, in float16 if that GPU is good at it."""
    import ctranslate2

    if ctranslate2.get_cuda_device_count() == 0:
        return "cpu", "float32"
    import torch  # noqa: F401 - loads the cuBLAS that came with it; CTranslate2 looks for one by name, and brings none

    return "cuda", "float16" if "float16" in ctranslate2.get_supported_compute_types("cuda") else "float32"


def _timed(tokenizer: Any, tokens: list[int], alignment: Any) -> list[Word]:
    """The words of the text of `tokens`, with the times at which the `alignment` moves on to their tokens."""
    text, owners = _text_by_token(tokenizer, tokens)
    text_steps, states = np.array(alignment.alignments).T
    moves = np.diff(text_steps, prepend=text_steps[0] - 1) > 0
    begins = states[moves] / _STATES_PER_SECOND  # of each token, and of the end
    words: list[Word] = []
    at = 0
    for blank, word in split(text):
        at += len(blank)
        heard = [owners[at + i] for i, character in enumerate(word) if is_said(character)]
        first, last = heard[0][0], heard[-1][1]
        at += len(word)
        score = float(np.mean(alignment.text_token_probs[first : last + 1]))
        words.append(Word(word, float(begins[first]), float(begins[last + 1]), score, blank=blank))
    return words


def _text_by_token(tokenizer: Any, tokens: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of `tokens`, and for each of its characters the first and last token that it is of: it may be of several."""
    owners: list[tuple[int, int]] = []
    text = ""
    for i in range(len(tokens)):
        split_before = text.endswith(_INCOMPLETE)
        text = tokenizer.decode(tokens[: i + 1])
        if split_before and owners:
            owners[-1] = (owners[-1][0], i)
        owners = owners[: len(text)] + [(i, i)] * (len(text) - len(owners))
    return text, owners


def log_mel(extractor: Any, samples: np.ndarray) -> np.ndarray:
    """Log-mel frames of `samples` (float32 [n], 16 kHz) by faster-whisper's extractor: float32 [mels, n / 160]."""
    frames = max(2, round(len(samples) / SAMPLE_RATE_HZ * FRAMES_PER_SECOND))
    needed = frames * SAMPLE_RATE_HZ // FRAMES_PER_SECOND
    # The extractor reflects 200 samples at each edge and drops the last frame of what it pads.
    samples = np.pad(samples, (0, max(0, needed - len(samples))))
    return np.asarray(extractor(samples)[:, :frames], dtype=np.float32)


def padded_frames(features: Sequence[np.ndarray]) -> int:
    """The frames to which a batch is padded: its longest item and `SILENCE_AFTER`, and at least `SHORTEST_PADDED`."""
    needed = max(f.shape[1] for f in features) + round(SILENCE_AFTER * FRAMES_PER_SECOND)
    return int(min(MAX_FRAMES, max(needed + needed % 2, round(SHORTEST_PADDED * FRAMES_PER_SECOND))))


@functools.lru_cache(maxsize=2)
def load_whisper(folder: Path) -> Whisper:
    """The model in `folder`, loaded once a process."""
    return Whisper(folder)

"""Whisper on CTranslate2. It is loaded once, and recognition and word alignment share it."""

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
"""The longest input of Whisper's encoder: 30 s of log-mel frames."""

MAX_TOKENS = 443
"""The most text tokens that the decoder reads at once: its 448 positions minus those of the prompt and the end."""
SHORTEST_PADDED, SILENCE_AFTER = 10.0, 1.0
"""Seconds. msfser pads each clip to at least the first, with at least the second as silence at its end.

Without padding, Whisper decodes the same text repeatedly.
"""

NO_SPEECH, UNLIKELY = 0.6, -1.0
"""OpenAI's own thresholds: of the probability that nobody speaks, and of the mean log-probability of a text's tokens."""

_INCOMPLETE = "\ufffd"
"""Stands for a character of which some bytes are in the tokens that follow."""
_MEDIAN_FILTER = 7
"""The width in frames of the filter that smooths the attention from which times are read (OpenAI's own value)."""
_STATES_PER_SECOND = FRAMES_PER_SECOND / 2
"""The encoder makes one state from two log-mel frames."""


class Whisper:
    """A loaded model. It computes log-mel features, encoder states, languages, tokens and word times.

    Callers pass each result to the next step, so nothing is computed twice.
    """

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        device, precision = _device()
        # Not int8 on a CPU. The last digit of a feature depends on the machine and its threads, and the rounding of int8 turns
        # that into a visible difference of the acoustic vector. With two threads int8 is also not faster. More threads than
        # cores are slower.
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
        """The faster-whisper model. whisperX's recogniser shares its weights."""
        return self._model

    def features(self, samples: np.ndarray) -> np.ndarray:
        """The log-mel frames of `samples` (float32 [n], 16 kHz): float32 [mels, n / 160], normalised to the loudest frame."""
        return log_mel(self._model.feature_extractor, samples)

    def encode(self, features: Sequence[np.ndarray], frames: int) -> Any:
        """The encoder states of a batch. Each item is padded with silence to `frames` (even, at most MAX_FRAMES)."""
        batch = np.stack([np.pad(f[:, :frames], ((0, 0), (0, max(0, frames - f.shape[1])))) for f in features])
        return self._model.encode(batch)

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """The probability of each language in each item of a batch."""
        results = self._model.model.detect_language(encoded)
        return [{token.strip("<|>"): float(probability) for token, probability in item} for item in results]

    def passages(
        self, encoded: Any, features: Sequence[np.ndarray], windows: Sequence[Span], regions: Sequence[Span], before: str | None
    ) -> list[Passage]:
        """The encoded windows of a batch cut into passages of one language each. Times are in seconds.

        regions: where there is speech. before: the language of the speech before these windows; None at the start.
        """
        import ctranslate2

        states = np.asarray(encoded.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))
        judged: list[list[Judged]] = []
        for state, (start, end) in zip(states, windows, strict=True):
            spans = parts([r for r in regions if start <= r[0] and r[1] <= end])
            judged.append([])
            for first, last in spans:
                own = state[round((first - start) * _STATES_PER_SECOND) : max(round((last - start) * _STATES_PER_SECOND), 1)]
                own = np.ascontiguousarray(own if len(spans) > 1 else state)[np.newaxis]
                [probabilities] = self.languages(ctranslate2.StorageView.from_array(own))
                judged[-1].append(Judged((first, last), probabilities))
        spoken = settled([part for of_window in judged for part in of_window], before)
        if len({*spoken, before or spoken[0]}) > 1:
            # The decoder takes each stretch of states for the start of a window. Sometimes it then hears another language, so a
            # change counts only if the parts, each encoded by itself, show it.
            judged = [
                [Judged(part.span, self._language_alone(frames, start, part.span)) for part in of_window]
                for frames, (start, _), of_window in zip(features, windows, judged, strict=True)
            ]
        return passages(judged, before)

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
        """Whether the model knows other languages than English."""
        return bool(self._model.model.is_multilingual)

    @functools.lru_cache(maxsize=128)  # noqa: B019 - one Whisper lives as long as the process
    def tokenizer(self, language: str) -> Any:
        """The tokenizer that prompts for `language`. Raises ValueError if Whisper does not know it."""
        from faster_whisper.tokenizer import Tokenizer

        return Tokenizer(self._model.hf_tokenizer, self.multilingual, task="transcribe", language=language)

    def require(self, language: str | None) -> None:
        """Raise UsageError if Whisper does not know the language."""
        try:
            self.tokenizer(language or "en")
        except ValueError as error:
            raise UsageError(f"Whisper does not know the language {language!r}; give one of its codes, such as en") from error

    def decode(self, encoded: Any, count: int, language: str, *, beam_size: int, no_repeat: int = 0) -> list[Decoded]:
        """The most likely tokens of each of `count` items, from a beam search without sampling."""
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
        """The words of each item with their times in it, from the decoder's cross-attention.

        frames: the length of each item without padding. The words are those of the text that the tokens decode to; a word may
        have several tokens. A word lasts from its first to its last spoken token, because the time of punctuation is that of
        the pause.
        """
        # A decoder in a loop writes more tokens than it can read. The excess tokens get no times, and so become no words.
        tokens = [t[:MAX_TOKENS] for t in tokens]
        tokenizer = self.tokenizer(language)
        results = self._model.model.align(encoded, tokenizer.sot_sequence, tokens, frames, median_filter_width=_MEDIAN_FILTER)
        return [_timed(tokenizer, t, result) if t else [] for t, result in zip(tokens, results, strict=True)]

    def _try(self) -> None:
        """Encode silence. Raises ModelError if the GPU cannot, for example because a library is missing.

        Otherwise every recording would fail.
        """
        try:
            self.encode([self.features(np.zeros(SAMPLE_RATE_HZ, np.float32))], FRAMES_PER_SECOND)
        except RuntimeError as error:
            if is_shortage(error):
                raise
            raise ModelError(
                f"Whisper cannot run on the GPU ({error}); repair the CUDA setup, or set CUDA_VISIBLE_DEVICES= to use the CPU"
            ) from error


class Decoded:
    """The text tokens of one item, the mean log-probability per token, and the probability that there is no speech."""

    __slots__ = ("log_probability", "no_speech", "tokens")

    def __init__(self, tokens: list[int], log_probability: float, no_speech: float) -> None:
        self.tokens = tokens
        self.log_probability = log_probability
        self.no_speech = no_speech

    @property
    def is_invented(self) -> bool:
        """Whether Whisper itself believes that nobody speaks and that its text is unlikely, by OpenAI's own thresholds."""
        return self.no_speech > NO_SPEECH and self.log_probability < UNLIKELY


def _device() -> tuple[str, str]:
    """The device and the precision for CTranslate2: a GPU if there is one, and float16 if that GPU supports it."""
    import ctranslate2

    if ctranslate2.get_cuda_device_count() == 0:
        return "cpu", "float32"
    import torch  # noqa: F401 - loads its own cuBLAS, which CTranslate2 then finds by name; CTranslate2 has none

    return "cuda", "float16" if "float16" in ctranslate2.get_supported_compute_types("cuda") else "float32"


def _timed(tokenizer: Any, tokens: list[int], alignment: Any) -> list[Word]:
    """The words of the text of `tokens`. Their times are those at which the `alignment` moves on to their tokens."""
    text, owners = _text_by_token(tokenizer, tokens)
    text_steps, states = np.array(alignment.alignments).T
    moves = np.diff(text_steps, prepend=text_steps[0] - 1) > 0
    begins = states[moves] / _STATES_PER_SECOND  # the start of each token, and of the end
    words: list[Word] = []
    at = 0
    for blank, word in split(text):
        at += len(blank)
        spoken = [owners[at + i] for i, character in enumerate(word) if is_said(character)]
        first, last = spoken[0][0], spoken[-1][1]
        at += len(word)
        score = float(np.mean(alignment.text_token_probs[first : last + 1]))
        words.append(Word(word, float(begins[first]), float(begins[last + 1]), score, blank=blank))
    return words


def _text_by_token(tokenizer: Any, tokens: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of `tokens`, and for each character the indices of its first and last token: its bytes may be in several."""
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
    """The log-mel frames of `samples` (float32 [n], 16 kHz) from faster-whisper's extractor: float32 [mels, n / 160]."""
    frames = max(2, round(len(samples) / SAMPLE_RATE_HZ * FRAMES_PER_SECOND))
    needed = frames * SAMPLE_RATE_HZ // FRAMES_PER_SECOND
    # The extractor reflects 200 samples at each edge, and drops the last frame of the padded samples.
    samples = np.pad(samples, (0, max(0, needed - len(samples))))
    return np.asarray(extractor(samples)[:, :frames], dtype=np.float32)


def padded_frames(features: Sequence[np.ndarray]) -> int:
    """The length in frames to which a batch is padded: its longest item plus `SILENCE_AFTER`, at least `SHORTEST_PADDED`."""
    needed = max(f.shape[1] for f in features) + round(SILENCE_AFTER * FRAMES_PER_SECOND)
    return int(min(MAX_FRAMES, max(needed + needed % 2, round(SHORTEST_PADDED * FRAMES_PER_SECOND))))


@functools.lru_cache(maxsize=2)
def load_whisper(folder: Path) -> Whisper:
    """The model in `folder`, loaded once in each process."""
    return Whisper(folder)

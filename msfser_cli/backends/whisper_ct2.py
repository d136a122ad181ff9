"""Whisper on CTranslate2. It is loaded once, and recognition and word alignment share it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli import processors
from msfser_cli.backends import Word
from msfser_cli.backends.inference import Batches
from msfser_cli.backends.languages import Judged, Passage, Span, beside_changes, likeliest, parts, passages
from msfser_cli.backends.parallel import each
from msfser_cli.backends.voice_activity import cut
from msfser_cli.backends.writing import is_said, split
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.settings import COMPUTE_TYPES

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

FRAMES_PER_SECOND = 100
MAX_FRAMES = 30 * FRAMES_PER_SECOND
"""The longest input of Whisper's encoder: 30 s of log-mel frames."""

MAX_TOKENS = 443
"""The most text tokens that the decoder reads at once: its 448 positions minus those of the prompt and the end."""
PADDED, SILENCE_AFTER = (10, 15, 20, 25, 30), 1
"""Seconds. msfser pads each item with silence to the shortest of `PADDED` that leaves at least `SILENCE_AFTER` at its end.

Without padding, Whisper decodes the same text repeatedly. Whisper masks no padding, so an item's own length decides on it, and
the result does not depend on the items in the same batch.
"""

BATCH = 8
"""The most items in a batch on a GPU."""
ENCODED, DECODED = 1, 8
"""The most items in a batch on a CPU. Larger batches do not decode faster.

Encoding needs blocks of memory that grow with the batch. From 32 MiB on, the C library asks the system for each block anew, so
two items of 15 s at once take twice as long as one after the other.
"""

NO_SPEECH, UNLIKELY = 0.6, -1.0
"""OpenAI's own thresholds: of the probability that nobody speaks, and of the mean log-probability of a text's tokens."""

_INCOMPLETE = "\ufffd"
"""Stands for a character of which some bytes are in the tokens that follow."""
_MEDIAN_FILTER = 7
"""The width in frames of the filter that smooths the attention from which times are read (OpenAI's own value)."""
_STATES_PER_SECOND = FRAMES_PER_SECOND / 2
"""The encoder makes one state from two log-mel frames."""


@dataclass(frozen=True)
class Encoded:
    """An encoded item. features: its log-mel frames, float32 [mels, frames]. states: float32 [padded frames / 2, width]."""

    features: np.ndarray
    states: np.ndarray

    @property
    def frames(self) -> int:
        """Its length in log-mel frames, without padding."""
        return int(self.features.shape[1])


@dataclass(frozen=True)
class Stretch:
    """Consecutive windows of a recording, with their times in seconds.

    samples: of the whole recording. regions: where it has speech. before: the language of the speech before these windows; None
    at the start. encoded: what of it was encoded by itself so far.
    """

    samples: Samples
    windows: Sequence[Span]
    regions: Sequence[Span]
    before: str | None
    encoded: dict[Span, Encoded] = field(default_factory=dict)

    @property
    def parts(self) -> list[list[Span]]:
        """The parts of each window whose languages are judged. A window with one part is that part."""
        return [parts(self.within(window)) for window in self.windows]

    def within(self, span: Span) -> list[Span]:
        """The regions within a span."""
        return [region for region in self.regions if span[0] <= region[0] and region[1] <= span[1]]


class Whisper:
    """A loaded model. It computes log-mel features, encoder states, languages, tokens and word times.

    Callers pass each result to the next step, so nothing is computed twice. Every method takes any number of items, and computes
    those of equal padding in batches. On a CPU, the result of an item is bit for bit that of the item alone: encoder states are,
    and so is what is computed in int8, because sums of integers do not depend on their order. The rest is computed alone.

    compute_type: one of `settings.COMPUTE_TYPES`. at_once: on a CPU, the number of batches at the same time, each in one thread;
    None: one after the other, each in all threads, as a caller of the `model` wants it.
    """

    def __init__(self, folder: Path, compute_type: str, at_once: int | None = None) -> None:
        from faster_whisper import WhisperModel

        device, precision = _device(compute_type)
        if device == "cuda":
            at_once = 1
        self._model: Any = WhisperModel(
            str(folder),
            device=device,
            compute_type=precision,
            cpu_threads=1 if at_once else min(4, processors.threads()),
            num_workers=at_once or 1,
            local_files_only=True,
        )
        items = (BATCH, BATCH, BATCH) if device == "cuda" else (ENCODED, DECODED if precision == "int8" else 1, 1)
        # Each has batches of its own, because each needs another amount of memory for the same items.
        self._encoding, self._decoding, self._aligning = (
            Batches(math.inf, n, equal=True, at_once=at_once or 1) for n in items  # equal, because Whisper masks no padding
        )
        if device == "cuda":
            self._try()

    @property
    def model(self) -> Any:
        """The faster-whisper model. whisperX's recogniser shares its weights."""
        return self._model

    def features(self, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The log-mel frames of each piece (float32 [n], 16 kHz): float32 [mels, n / 160], normalised to the loudest frame."""
        return each(lambda samples: log_mel(self._model.feature_extractor, samples), pieces)

    def encode(self, features: Sequence[np.ndarray], *, to_30_s: bool = False) -> list[Encoded]:
        """The encoder states of each item. Items of more than 30 s are cut. to_30_s: pad all items to 30 s."""
        import ctranslate2

        padded = [MAX_FRAMES if to_30_s else padded_frames(f.shape[1]) for f in features]
        encoded: list[Encoded] = [None] * len(features)  # type: ignore[list-item]

        def states(chosen: list[int]) -> np.ndarray:
            batch = [features[i][:, : padded[i]] for i in chosen]
            view = self._model.encode(np.stack([np.pad(f, ((0, 0), (0, padded[chosen[0]] - f.shape[1]))) for f in batch]))
            return np.asarray(view.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))

        for chosen, batch in self._encoding.over(padded, states):
            for i, state in zip(chosen, batch, strict=True):
                encoded[i] = Encoded(features[i][:, : padded[i]], state)
        return encoded

    def hear(self, spans: Sequence[tuple[Stretch, Span]]) -> list[Encoded]:
        """Each span of a stretch, encoded by itself. What was encoded before is not encoded again."""
        new = [(stretch, span) for stretch, span in spans if span not in stretch.encoded]
        for (stretch, span), item in zip(new, self.encode(self.features([cut(s.samples, span) for s, span in new])), strict=True):
            stretch.encoded[span] = item
        return [stretch.encoded[span] for stretch, span in spans]

    def languages(self, states: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """The probability of each language in each item, or part of an item. states: float32 [frames / 2, width]."""
        probabilities: list[dict[str, float]] = [{}] * len(states)

        def detect(chosen: list[int]) -> Any:
            return self._model.model.detect_language(_view([states[i] for i in chosen]))

        for chosen, results in self._decoding.over([len(state) for state in states], detect):
            for i, item in zip(chosen, results, strict=True):
                probabilities[i] = {token.strip("<|>"): float(probability) for token, probability in item}
        return probabilities

    def passages(self, stretches: Sequence[Stretch]) -> list[list[Passage]]:
        """Each stretch cut into passages of one language each.

        A part is judged by its states within its window. The decoder takes them for the start of a window, and sometimes it then
        hears another language. So a change counts only if the parts on both sides, each encoded by itself, show it.
        """
        self.hear([(stretch, window) for stretch in stretches for window in stretch.windows])
        within = self._judged([
            (span, _states(stretch, window, span))
            for stretch in stretches
            for window, of_window in zip(stretch.windows, stretch.parts, strict=True)
            for span in of_window
        ])  # fmt: skip
        each_part = iter(within)
        judged = [[next(each_part) for of_window in stretch.parts for _ in of_window] for stretch in stretches]
        while doubtful := [
            (i, j)
            for i, stretch in enumerate(stretches)
            for j in beside_changes(judged[i], stretch.before)
            if judged[i][j].span not in stretch.encoded
        ]:
            spans = [(stretches[i], judged[i][j].span) for i, j in doubtful]
            heard = self.hear(spans)
            anew = self._judged([(span, item.states) for (_, span), item in zip(spans, heard, strict=True)])
            for (i, j), part in zip(doubtful, anew, strict=True):
                judged[i][j] = part
        result = []
        for of_stretch, stretch in zip(judged, stretches, strict=True):
            each_part = iter(of_stretch)
            result.append(passages([[next(each_part) for _ in of_window] for of_window in stretch.parts], stretch.before))
        return result

    def _judged(self, heard: Sequence[tuple[Span, np.ndarray]]) -> list[Judged]:
        """Spans with the probabilities of their languages. heard: each span with its states."""
        return [Judged(span, p) for (span, _), p in zip(heard, self.languages([s for _, s in heard]), strict=True)]

    def detect(self, samples: Samples) -> tuple[str, float]:
        """The language of the first 30 s of `samples`, and its probability."""
        [encoded] = self.encode(self.features([samples[: 30 * SAMPLE_RATE_HZ]]))
        [probabilities] = self.languages([encoded.states])
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

    def decode(
        self, encoded: Sequence[Encoded], languages: Sequence[str], *, beam_size: int, no_repeat: int = 0
    ) -> list[Decoded]:
        """The most likely tokens of each item in its language, from a beam search without sampling."""
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizers = [self.tokenizer(language) for language in languages]
        prompts = [self._model.get_prompt(tokenizer, [], without_timestamps=True) for tokenizer in tokenizers]
        decoded: list[Decoded] = [None] * len(encoded)  # type: ignore[list-item]

        def generate(chosen: list[int]) -> Any:
            return self._model.model.generate(
                _view([encoded[i].states for i in chosen]),
                [prompts[i] for i in chosen],
                beam_size=beam_size,
                max_length=self._model.max_length,
                suppress_tokens=get_suppressed_tokens(tokenizers[chosen[0]], [-1]),  # the same in each language
                no_repeat_ngram_size=no_repeat,
                return_scores=True,
                return_no_speech_prob=True,
            )

        for chosen, results in self._decoding.over([len(item.states) for item in encoded], generate):
            for i, r in zip(chosen, results, strict=True):
                tokens = [token for token in r.sequences_ids[0] if token < tokenizers[i].eot]
                decoded[i] = Decoded(tokens, float(r.scores[0]), float(r.no_speech_prob))
        return decoded

    def word_times(self, encoded: Sequence[Encoded], tokens: Sequence[list[int]], language: str) -> list[list[Word]]:
        """The words of each item with their times in it, from the decoder's cross-attention.

        The words are those of the text that the tokens decode to; a word may have several tokens. A word lasts from its first to
        its last spoken token, because the time of punctuation is that of the pause.
        """
        # A decoder in a loop writes more tokens than it can read. The excess tokens get no times, and so become no words.
        tokens = [t[:MAX_TOKENS] for t in tokens]
        tokenizer = self.tokenizer(language)
        words: list[list[Word]] = [[] for _ in encoded]

        def align(chosen: list[int]) -> Any:
            return self._model.model.align(
                _view([encoded[i].states for i in chosen]), tokenizer.sot_sequence, [tokens[i] for i in chosen],
                [encoded[i].frames for i in chosen], median_filter_width=_MEDIAN_FILTER,
            )  # fmt: skip

        for chosen, results in self._aligning.over([len(item.states) for item in encoded], align):
            for i, result in zip(chosen, results, strict=True):
                words[i] = _timed(tokenizer, tokens[i], result) if tokens[i] else []
        return words

    def _try(self) -> None:
        """Encode silence. Raises ModelError if the GPU cannot, for example because a library is missing.

        Otherwise every recording would fail.
        """
        try:
            self.encode(self.features([np.zeros(SAMPLE_RATE_HZ, np.float32)]))
        except RuntimeError as error:
            raise ModelError(
                f"Whisper cannot run on the GPU ({error}); repair the CUDA setup, or set CUDA_VISIBLE_DEVICES= to use the CPU"
            ) from error


@dataclass(frozen=True)
class Decoded:
    """The text tokens of one item, the mean log-probability per token, and the probability that there is no speech."""

    tokens: list[int]
    log_probability: float
    no_speech: float

    @property
    def is_invented(self) -> bool:
        """Whether Whisper itself believes that nobody speaks and that its text is unlikely, by OpenAI's own thresholds."""
        return self.no_speech > NO_SPEECH and self.log_probability < UNLIKELY


def _device(compute_type: str) -> tuple[str, str]:
    """The device and the precision for CTranslate2: a GPU if there is one. `auto`: int8 on a CPU, float16 on a GPU if it can."""
    import ctranslate2

    device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    supported = ctranslate2.get_supported_compute_types(device)
    if device == "cuda":
        import torch  # noqa: F401 - loads its own cuBLAS, which CTranslate2 then finds by name; CTranslate2 has none
    if compute_type == "auto":
        compute_type = next(c for c in (("int8",) if device == "cpu" else ("float16", "float32")) if c in supported)
    if compute_type not in supported:
        raise UsageError(f"this {'GPU' if device == 'cuda' else 'CPU'} cannot compute in {compute_type}; choose another "
                         f"--compute-type of {', '.join(sorted(supported.intersection(COMPUTE_TYPES)))}")
    return device, compute_type


def _view(states: Sequence[np.ndarray]) -> Any:
    """The states of a batch for CTranslate2: [B, frames / 2, width]."""
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.stack(states))


def _states(stretch: Stretch, window: Span, span: Span) -> np.ndarray:
    """The encoder states of a part of a window."""
    if span in stretch.encoded:
        return stretch.encoded[span].states
    first, last = (round((time - window[0]) * _STATES_PER_SECOND) for time in span)
    return stretch.encoded[window].states[first : max(last, first + 2)]


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


def padded_frames(frames: int) -> int:
    """The length to which an item of `frames` is padded (see `PADDED`), at most `MAX_FRAMES`."""
    needed = frames + SILENCE_AFTER * FRAMES_PER_SECOND
    return min((seconds * FRAMES_PER_SECOND for seconds in PADDED if seconds * FRAMES_PER_SECOND >= needed), default=MAX_FRAMES)


@functools.lru_cache(maxsize=2)
def load_whisper(folder: Path, compute_type: str, at_once: int | None = None) -> Whisper:
    """The model in `folder`, loaded once in each process. The arguments are those of `Whisper`."""
    return Whisper(folder, compute_type, at_once)

"""Makes training batches: voices from EmoDB and texts from EmoBank, paired so that a head cannot tell the corpora apart.

In EmoDB, the voice varies, and the text is neutral and German. In EmoBank, the text varies, and there is no voice. A head trained
on both as they are learns to tell them apart (by language or microphone), and to ignore what does not vary in each. It then
fails if voice and text both matter. So each batch has four groups, and each group has its own CCC in the loss:

- acted: an EmoDB voice with its own words, which are sometimes left out. The label is the voice's.
- composed: an EmoDB voice with the text of a random EmoBank sentence. The label is the voice's plus the sentence's difference
  from the mean.
- read: a synthetic voice, which expresses no emotion, with a random EmoBank sentence. The label is the sentence's valence. Its
  arousal and dominance are unknown: raters saw only the words, and a fast, high voice sounds more aroused. With the sentence's
  labels, the head would learn to ignore the sound of all voices but those of EmoDB's actors.
- written: a sentence without a voice. The label is the sentence's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from features import Examples

ACTED, COMPOSED, READ, WRITTEN = 96, 96, 128, 256
OWN_TEXT = 0.3
"""The share of read voices that keep the sentence that they spoke."""
SILENT = 0.3
"""The share of acted voices whose own words (LES and GS) are left out."""
ABSENT = np.array([0.05, 0.5, 0.1, 0.15])
"""The shares of acoustic, LES, GS and ES vectors that are left out. Most LES are random words, so half of them are left out."""


@dataclass(frozen=True)
class Group:
    """Examples with a common CCC in the loss. Arrays as in `Examples`."""

    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray


class Pairing:
    """Draws batches from acted, spoken (synthetic voices) and written examples. All random choices come from `rng`."""

    def __init__(self, acted: Examples, spoken: Examples, written: Examples, rng: np.random.Generator) -> None:
        self._acted, self._spoken, self._written, self._rng = acted, spoken, written, rng
        self._forms = [np.flatnonzero(acted.item == item) for item in np.unique(acted.item)]
        self._usual = written.labels.mean(axis=0)

    def batches(self, count: int) -> Iterator[tuple[Group, ...]]:
        """Yields `count` batches of the four groups."""
        for _ in range(count):
            yield self._own(), self._composed(), self._read(), self._sentences()

    def _own(self) -> Group:
        e = self._acted.where(self._clips(ACTED))
        present = self._thinned(e.present)
        present[self._rng.random(ACTED) < SILENT, 1:3] = False
        return Group(e.acoustic, e.texts, present, e.labels)

    def _composed(self) -> Group:
        voice, text = self._acted.where(self._clips(COMPOSED)), self._any(self._written, COMPOSED)
        texts, present = _paired(voice, text)
        labels = np.clip(voice.labels + text.labels - self._usual, 0, 1)
        return Group(voice.acoustic, texts, self._thinned(present), labels)

    def _read(self) -> Group:
        voice, text = self._any(self._spoken, READ), self._any(self._written, READ)
        texts, present = _paired(voice, text)
        own = self._rng.random(READ) < OWN_TEXT
        texts[own], present[own] = voice.texts[own], voice.present[own]
        labels = np.where(own[:, None], voice.labels, text.labels)
        labels[:, 1:] = np.nan
        return Group(voice.acoustic, texts, self._thinned(present), labels)

    def _sentences(self) -> Group:
        text = self._any(self._written, WRITTEN)
        silence = np.zeros((WRITTEN, self._acted.acoustic.shape[1]), np.float32)
        return Group(silence, text.texts, self._thinned(text.present), text.labels)

    def _clips(self, count: int) -> np.ndarray:
        """Indices of `count` acted examples: a random clip each, in a random form."""
        chosen = self._rng.integers(len(self._forms), size=count)
        return np.array([self._rng.choice(self._forms[i]) for i in chosen])

    def _any(self, examples: Examples, count: int) -> Examples:
        return examples.where(self._rng.integers(len(examples), size=count))

    def _thinned(self, present: np.ndarray) -> np.ndarray:
        return present & (self._rng.random(present.shape) >= ABSENT)


def _paired(voice: Examples, text: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The voice's acoustic and ES streams with the text's LES and GS."""
    texts, present = text.texts.copy(), text.present.copy()
    texts[:, 2], present[:, 0], present[:, 3] = voice.texts[:, 2], voice.present[:, 0], voice.present[:, 3]
    return texts, present

"""What one training batch is made of: voices from EmoDB and texts from EmoBank, paired so that neither gives away the other.

EmoDB varies the voice and keeps the text neutral, and German; EmoBank varies the text and has no voice. Trained on the two side
by side, a head learns to tell them apart (by language, by microphone) and to switch off what does not vary there, and it fails
where both matter. So each batch holds four groups, each with a concordance of its own:

- acted: an EmoDB voice with its own words, which are left out now and then. Label: the voice's.
- composed: an EmoDB voice with the text of any EmoBank sentence. Label: the voice's plus the sentence's distance from the mean.
- read: a synthetic voice, which acts nothing, with any EmoBank sentence. Label: the sentence's valence. Its arousal and dominance
  are not known: raters saw the words alone, and a fast, high voice does sound more aroused. Called calm, it would teach the head
  to ignore how any voice sounds but those of EmoDB's actors.
- written: a sentence without a voice. Label: the sentence's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from features import Examples

ACTED, COMPOSED, READ, WRITTEN = 96, 96, 128, 256
OWN_TEXT = 0.3
"""How often a read voice keeps the sentence that it spoke."""
SILENT = 0.3
"""How often an acted voice loses its own words (LES and GS)."""
ABSENT = np.array([0.05, 0.5, 0.1, 0.15])
"""How often the acoustic vector, LES, GS and ES are left out of any example. Most LES are random words, hence half of them."""


@dataclass(frozen=True)
class Group:
    """Examples that share a concordance. Arrays as in `Examples`."""

    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray


class Pairing:
    """Draws batches from acted, spoken (synthetic voices) and written examples; the generator decides everything."""

    def __init__(self, acted: Examples, spoken: Examples, written: Examples, rng: np.random.Generator) -> None:
        self._acted, self._spoken, self._written, self._rng = acted, spoken, written, rng
        self._forms = [np.flatnonzero(acted.item == item) for item in np.unique(acted.item)]
        self._usual = written.labels.mean(axis=0)

    def batches(self, count: int) -> Iterator[tuple[Group, ...]]:
        """`count` batches of the four groups."""
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
        """Indices of acted examples: a clip at random, then one of its forms."""
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

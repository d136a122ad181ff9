"""Makes training batches: voices of actors and texts of EmoBank, paired so that a head cannot tell the corpora apart.

In the acted corpora, the voice varies, and the words are neutral. In EmoBank, the words vary, and there is no voice. A head
trained on both as they are learns to tell them apart, and to ignore what does not vary in each. It then fails if voice and words
both matter. So each batch has groups, and each group has its own CCC in the loss:

- acted, one group for each corpus: a voice with its own description. Its words are its own, or those of another clip, or left
  out. All are neutral, so the label is the voice's.
- composed: a voice with the words of a random sentence of EmoBank. The label is the voice's plus the sentence's difference from
  the mean.
- read: a synthetic voice, which expresses no emotion, with a random sentence. The label is the sentence's valence. Its arousal
  and dominance are unknown: raters saw only the words, and a fast, high voice sounds more aroused. With the sentence's labels,
  the head would learn to ignore the sound of all voices but those of the actors.
- written: a sentence without a voice. The label is the sentence's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from features import Examples, together

READ, WRITTEN = 96, 192
"""The numbers of examples in the groups of each batch that have no actor's voice."""
OF_READ = 0.3
"""The weight of read voices in the loss.

They teach that a voice unlike those of the actors is neutral, also where it is not: the CCC of valence on EmoDB, if not trained
on, is .6 without them and .4 with a weight of 1. But without them, synthetic voices get a valence of their own.
"""
OWN_TEXT = 0.3
"""The share of read voices that keep the sentence that they spoke."""
UNSAID, OTHERS = 0.35, 0.35
"""The shares of acted voices whose words are left out, and whose words are another clip's."""
ABSENT = np.array([0.05, 0.5, 0.1, 0.8])
"""The shares of acoustic, LES, GS and ES vectors that are left out. Most LES are random words, so half of them are left out. ES
tells little that the voice does not, and costs up to .07 of arousal's CCC on EmoDB if the head relies on it.
"""


@dataclass(frozen=True)
class Group:
    """Examples with a common CCC in the loss. Arrays as in `Examples`.

    voices: the indices of the actors' voices among all acted examples; None for a group without them. weight: in the loss.
    """

    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    voices: np.ndarray | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Share:
    """The numbers of an acted corpus's examples in each batch, in its own group and in the composed one, and its weight."""

    own: int
    composed: int
    weight: float


class Pairing:
    """Draws batches. All random choices come from `rng`.

    acted: each corpus, with its share. spoken: by synthetic voices. written: sentences.
    """

    def __init__(
        self, acted: Sequence[tuple[Examples, Share]], spoken: Examples, written: Examples, rng: np.random.Generator
    ) -> None:
        self._acted, self._shares = together([corpus for corpus, _ in acted]), [share for _, share in acted]
        ends = np.cumsum([len(corpus) for corpus, _ in acted])
        self._corpora = [np.arange(end - len(corpus), end) for end, (corpus, _) in zip(ends, acted, strict=True)]
        has_words = self._acted.present[:, 2]
        self._with_words = np.flatnonzero(has_words if has_words.any() else ~has_words)
        self._spoken, self._written, self._rng = spoken, written, rng
        self._usual = written.labels.mean(axis=0)

    def batches(self, count: int) -> Iterator[list[Group]]:
        """Yields the groups of `count` batches."""
        for _ in range(count):
            own = [self._own(corpus, share) for corpus, share in zip(self._corpora, self._shares, strict=True)]
            yield [*own, self._composed(), self._read(), self._sentences()]

    def _own(self, corpus: np.ndarray, share: Share) -> Group:
        size = share.own
        chosen = self._rng.choice(corpus, size)
        e = self._acted.where(chosen)
        texts, present = e.texts.copy(), e.present.copy()
        draw = self._rng.random(size)
        others = draw < OTHERS
        of_others = self._acted.where(self._rng.choice(self._with_words, size))
        texts[others, :2], present[others, 1:3] = of_others.texts[others, :2], of_others.present[others, 1:3]
        present[draw > 1 - UNSAID, 1:3] = False
        return Group(e.acoustic, texts, self._thinned(present), e.labels, chosen, share.weight)

    def _composed(self) -> Group:
        of_corpora = zip(self._corpora, self._shares, strict=True)
        chosen = np.concatenate([self._rng.choice(corpus, share.composed) for corpus, share in of_corpora])
        voice, text = self._acted.where(chosen), self._any(self._written, len(chosen))
        texts, present = _paired(voice, text)
        labels = np.clip(voice.labels + text.labels - self._usual, 0, 1)
        return Group(voice.acoustic, texts, self._thinned(present), labels, chosen)

    def _read(self) -> Group:
        voice, text = self._any(self._spoken, READ), self._any(self._written, READ)
        texts, present = _paired(voice, text)
        own = self._rng.random(READ) < OWN_TEXT
        texts[own], present[own] = voice.texts[own], voice.present[own]
        labels = np.where(own[:, None], voice.labels, text.labels)
        labels[:, 1:] = np.nan
        return Group(voice.acoustic, texts, self._thinned(present), labels, weight=OF_READ)

    def _sentences(self) -> Group:
        text = self._any(self._written, WRITTEN)
        silence = np.zeros((WRITTEN, self._acted.acoustic.shape[1]), np.float32)
        return Group(silence, text.texts, self._thinned(text.present), text.labels)

    def _any(self, examples: Examples, count: int) -> Examples:
        return examples.where(self._rng.integers(len(examples), size=count))

    def _thinned(self, present: np.ndarray) -> np.ndarray:
        return present & (self._rng.random(present.shape) >= ABSENT)


def _paired(voice: Examples, text: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The voice's acoustic and ES streams with the text's LES and GS."""
    texts, present = text.texts.copy(), text.present.copy()
    texts[:, 2], present[:, 0], present[:, 3] = voice.texts[:, 2], voice.present[:, 0], voice.present[:, 3]
    return texts, present

"""How a head learns to use a reference: voices are scored relative to other utterances of the same speaker.

Left alone, training sets the weights of the reference to zero, because a corpus has few speakers and a head can know them all. So
each voice, with the utterances that it is compared with, is moved by a random difference between speakers, up to `ENLARGED` times
as large as in the training set. Only the reference can tell the head what was moved. This is our own method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.stages.predict import FEWEST

ENLARGED = 3.0
"""The largest factor of a difference between speakers."""
MOST = 40
"""The most utterances in a reference that is drawn for training, itself included. The fewest is itself alone."""
ALIKE = 0.3
"""The share of references from utterances with similar labels, as of a speaker who is angry all the time."""


@dataclass(frozen=True)
class Drawn:
    """G references for B utterances.

    of: the reference of each utterance, 0..G - 1, int64 [B]. shift: added to all voices of a reference, float32 [G, A].
    members: the utterances of all references, indices, int64 [M]. owners: their references, 0..G - 1, int64 [M].
    """

    of: Tensor
    shift: Tensor
    members: Tensor
    owners: Tensor


class References:
    """References from the utterances of each speaker.

    acoustic: float32 [N, A]. present: bool [N], whether an utterance has an acoustic vector. labels: [N, D], NaN if missing.
    speakers: the speaker of each utterance. train: the indices of the training set, whose speakers' differences are used. At
    least one of these has an acoustic vector.
    """

    def __init__(
        self, acoustic: np.ndarray, present: np.ndarray, labels: np.ndarray, speakers: Sequence[str], train: np.ndarray
    ) -> None:
        self._acoustic = torch.from_numpy(acoustic)
        known = ~np.isnan(labels)
        means = np.where(known, labels, 0.0).sum(axis=0) / known.sum(axis=0).clip(min=1)
        self._labels = np.where(known, labels, means)
        names, self._speaker = np.unique(np.asarray(speakers), return_inverse=True)
        voiced = np.flatnonzero(present)
        order = voiced[np.argsort(self._speaker[voiced], kind="stable")]
        ends = np.searchsorted(self._speaker[order], np.arange(len(names) + 1))
        self._own = [order[first:last] for first, last in itertools.pairwise(ends)]
        trained = [own[np.isin(own, train)] for own in self._own]
        voices = np.stack([acoustic[own].mean(axis=0) for own in trained if len(own)])
        self._differences = torch.from_numpy((voices - voices.mean(axis=0)).astype(np.float32) / math.sqrt(len(voices)))

    def drawn(self, chosen: Tensor) -> Drawn:
        """Random references for training. All random choices come from torch's generator. chosen: indices, int64 [B]."""
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        directions = torch.from_numpy(rng.normal(size=(len(chosen), len(self._differences))).astype(np.float32))
        strength = torch.from_numpy(rng.uniform(0, ENLARGED, (len(chosen), 1)).astype(np.float32))
        members = [self._some(i, rng) for i in chosen.tolist()]
        return replace(self.of(members), shift=strength * (directions @ self._differences))

    def of(self, members: Sequence[np.ndarray]) -> Drawn:
        """A reference for each utterance, from the members that are given, without a shift. members: indices, int64 [m] each."""
        return self._from(torch.arange(len(members)), members)

    def complete(self, chosen: Tensor) -> Drawn:
        """References from all utterances of each speaker. As in `predict`, a speaker with fewer than `FEWEST` has none."""
        speakers, of = np.unique(self._speaker[chosen.numpy()], return_inverse=True)
        members = [own if len(own) >= FEWEST else own[:0] for own in (self._own[speaker] for speaker in speakers)]
        return self._from(torch.from_numpy(of), members)

    def scored(self, head: MsfSer, acoustic: Tensor, texts: Tensor, present: Tensor, drawn: Drawn) -> MsfSerOutput:
        """The head's output for the B utterances with the references `drawn`. The other arguments are those of `MsfSer`."""
        voices = self._acoustic[drawn.members] + drawn.shift[drawn.owners]
        of_members = head.evidence(voices, torch.ones(len(voices), present.shape[1], dtype=torch.bool))
        sums = of_members.new_zeros(len(drawn.shift), of_members.shape[1]).index_add(0, drawn.owners, of_members)
        return head(acoustic + drawn.shift[drawn.of], texts, present, sums[drawn.of])  # type: ignore[no-any-return]

    def _from(self, of: Tensor, members: Sequence[np.ndarray]) -> Drawn:
        """The references `of` the utterances, each with the members that are given."""
        owners = np.repeat(np.arange(len(members)), [len(m) for m in members])
        nothing = torch.zeros(len(members), self._acoustic.shape[1])
        return Drawn(of, nothing, torch.from_numpy(np.concatenate(members).astype(np.int64)), torch.from_numpy(owners))

    def _some(self, utterance: int, rng: np.random.Generator) -> np.ndarray:
        """The utterance itself with a random number of others of its speaker, int64 [m]; none without a voice."""
        own: np.ndarray = self._own[self._speaker[utterance]]
        others = own[own != utterance]
        if len(others) == len(own):
            return own[:0]
        count = round(math.exp(rng.uniform(0, math.log(MOST)))) - 1
        if rng.random() < ALIKE:
            distances = np.abs(self._labels[others] - self._labels[utterance]).sum(axis=1)
            others = others[np.argsort(distances, kind="stable")[: max(count, len(others) // 6)]]
        return np.append(rng.permutation(others)[:count], utterance)


"""From a recording's channels to what is heard: a mix in which nothing cancels out, or each channel by itself.

The weights of a mix are those of the standard downmix (ITU-R BS.775): the centre, where the dialogue is, at 1, left and right at
0.71, the surrounds at 0.5, and nothing of the channel for low-frequency effects. They are scaled to a sum of 1: a mix is a mean,
and never beyond what its parts have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

_LEFT_RIGHT = 0.5**0.5
_WEIGHTS = {
    "FC": 1.0, "FL": _LEFT_RIGHT, "FR": _LEFT_RIGHT, "FLC": _LEFT_RIGHT, "FRC": _LEFT_RIGHT, "WL": _LEFT_RIGHT, "WR": _LEFT_RIGHT,
    "DL": _LEFT_RIGHT, "DR": _LEFT_RIGHT, "LFE": 0.0, "LFE2": 0.0,
}  # fmt: skip
_SURROUND = 0.5

_BLOCK = SAMPLE_RATE_HZ // 2  # channels are weighed against each other in blocks of half a second
_FADE = SAMPLE_RATE_HZ // 50
_CANCELS, _HOLDS = 0.25, 0.5
"""A mix with less of the energy that its parts would have if they were independent is not heard, until it has more than that."""
_INAUDIBLE = 1e-10  # -100 dBFS
_PART = SAMPLE_RATE_HZ // 10  # who is heard when is told in parts of a tenth of a second
_MOST_COMPARED = 8  # channels
_NOTED_S = 1.0


def weights(layout: Sequence[str]) -> np.ndarray:
    """The share of each channel in a mix, float32 [channels], of sum 1; equal where a layout does not name them all."""
    if any(name == "NONE" for name in layout):
        return np.full(len(layout), 1 / len(layout), np.float32)
    shares = np.array([_WEIGHTS.get(name, _SURROUND) for name in layout], np.float32)
    if not shares.any():
        shares[:] = 1
    return np.asarray(shares / shares.sum())


class Mixer:
    """Mixes a stream of blocks, float32 [n, channels] at 16 kHz, into one channel of the same length.

    Where the channels cancel each other out (one of them has the wrong polarity), one is heard in place of the mix as long
    as they do: the centre of a layout that has one, else the loudest.
    """

    def __init__(self, layout: Sequence[str]) -> None:
        self._weights = weights(layout)
        self._centre = list(layout).index("FC") if "FC" in layout and len(layout) > 1 else None
        self._waiting: list[np.ndarray] = []
        self._count = 0
        self._taken: int | None = None
        self._cancelled: dict[int, float] = {}
        self._compared = _Comparison(len(layout)) if self._centre is None and 1 < len(layout) <= _MOST_COMPARED else None

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Take a block, and give what of the mix is finished by now, float32 [n]."""
        if len(self._weights) == 1:
            yield block[:, 0]
            return
        self._waiting.append(block)
        self._count += len(block)
        if self._count >= _BLOCK:
            held = np.concatenate(self._waiting)
            whole = len(held) // _BLOCK * _BLOCK
            for first in range(0, whole, _BLOCK):
                yield self._mixed(held[first : first + _BLOCK])
            self._waiting, self._count = [held[whole:]], len(held) - whole

    def flush(self) -> Iterator[np.ndarray]:
        """The rest of the mix; the stream ends here, or goes on after a gap."""
        if self._count:
            yield self._mixed(np.concatenate(self._waiting))
        self._waiting, self._count = [], 0

    def notes(self) -> list[str]:
        """What a reader should know of the channels."""
        notes = []
        if (seconds := sum(self._cancelled.values())) >= _NOTED_S:
            taken = max(self._cancelled, key=lambda channel: self._cancelled[channel])
            notes.append(f"its channels cancel each other out: for {seconds:.1f} s, channel {taken} was heard and not their mix")
        if self._compared and (pair := self._compared.different()):
            one, other = pair
            notes.append(f"its channels {one} and {other} hold different sound: if each is a speaker's, use --channels split")
        return notes

    def _mixed(self, block: np.ndarray) -> np.ndarray:
        mix = block @ self._weights
        energies = np.square(block, dtype=np.float64).sum(axis=0)
        independent = float(energies @ np.square(self._weights, dtype=np.float64))
        if self._compared:
            self._compared.add(block)
        before = self._taken
        if independent > _INAUDIBLE * len(block):
            share = float(np.square(mix, dtype=np.float64).sum()) / independent
            if share < (_CANCELS if before is None else _HOLDS):
                self._taken = self._loudest(energies)
                self._cancelled[self._taken] = self._cancelled.get(self._taken, 0.0) + len(block) / SAMPLE_RATE_HZ
            else:
                self._taken = None
        heard = mix if self._taken is None else block[:, self._taken]
        if before == self._taken:
            return np.ascontiguousarray(heard)
        old = mix if before is None else block[:, before]
        fade = np.minimum(np.arange(len(block), dtype=np.float32) / _FADE, 1)
        return np.asarray(old * (1 - fade) + heard * fade)

    def _loudest(self, energies: np.ndarray) -> int:
        heard = np.where(self._weights > 0, energies, 0)
        if self._centre is not None and heard[self._centre] >= 0.01 * heard.max():
            return self._centre
        if self._taken is not None and heard[self._taken] >= 0.25 * heard.max():
            return self._taken
        return int(np.argmax(heard >= 0.5 * heard.max()))  # of those that are about as loud, the first


class _Comparison:
    """Whether channels hold different speech: each is by far the loudest at times, and they have little in common."""

    _LEAST_SHARE, _LEAST_S = 0.05, 0.3
    _LOUDER, _ACTIVE = 10.0, 10**-2.5
    _RELATED = 0.3

    def __init__(self, channels: int) -> None:
        self._levels: list[np.ndarray] = []
        self._products = np.zeros((channels, channels))

    def add(self, block: np.ndarray) -> None:
        self._products += block.T.astype(np.float64) @ block
        whole = len(block) // _PART * _PART
        parts = block[:whole].reshape(-1, _PART, block.shape[1])
        self._levels.append(np.square(parts).mean(axis=1, dtype=np.float32))

    def different(self) -> tuple[int, int] | None:
        """Two such channels."""
        levels = np.concatenate(self._levels) if self._levels else np.zeros((0, 2), np.float32)
        if not len(levels):
            return None
        active = levels > np.maximum(_INAUDIBLE, np.percentile(levels, 95, axis=0).max() * self._ACTIVE)
        ordered = np.sort(levels, axis=1)
        alone = (levels == ordered[:, -1:]) & (ordered[:, -1:] > self._LOUDER * ordered[:, -2:-1]) & active
        parts = alone.sum(axis=0)
        least = max(self._LEAST_SHARE * active.any(axis=1).sum(), self._LEAST_S * SAMPLE_RATE_HZ / _PART)
        one, other = np.sort(np.argsort(-parts, kind="stable")[:2])
        if min(parts[one], parts[other]) < least:
            return None
        related = abs(self._products[one, other]) / np.sqrt(self._products[one, one] * self._products[other, other])
        return None if related > self._RELATED else (int(one), int(other))


class Splitter:
    """Hands every channel of a stream on, and says which of them are worth hearing."""

    _SAME, _SHARED = 0.999, 0.1
    _SILENT_DB = 1e-12

    def __init__(self, channels: int) -> None:
        self._products = np.zeros((channels, channels))
        self._count = 0

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """The block, float32 [n, channels], as it is."""
        self._products += block.T.astype(np.float64) @ block
        self._count += len(block)
        yield block

    def flush(self) -> Iterator[np.ndarray]:
        """Nothing is held back."""
        return iter(())

    def kept(self) -> tuple[list[int | None], list[str]]:
        """The channels that are neither silent nor the same sound as an earlier one, at least one; and what to say of it."""
        energies = np.diag(self._products)
        kept: list[int] = []
        same: list[int] = []
        shared: list[tuple[int, int]] = []
        for channel, energy in enumerate(energies):
            if energy <= self._SILENT_DB * max(1, self._count):
                continue
            related = [abs(self._products[channel, k]) / np.sqrt(energy * energies[k]) for k in kept]
            if any(share > self._SAME for share in related):
                same.append(channel)
                continue
            shared += [(k, channel) for k, share in zip(kept, related, strict=True) if share > self._SHARED]
            kept.append(channel)
        which = f"channel {same[0]} was" if len(same) == 1 else f"{len(same)} channels were"
        notes = [f"{which} left out as a copy of another"] if same else []
        if shared:
            one, other = shared[0]
            notes.append(f"its channels {one} and {other} share sound: what both have picked up has rows in both")
        return [*kept] or [0], notes

"""Makes a mix of a recording's channels in which they do not cancel each other out, or splits them.

The weights of a mix are those of the standard downmix (ITU-R BS.775): 1 for the centre, which has the dialogue, 0.71 for left and
right, 0.5 for the surrounds, 0 for low-frequency effects. They are scaled to a sum of 1. The mix is therefore a mean, and never
exceeds the largest of its channels.
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

_BLOCK = SAMPLE_RATE_HZ // 2  # cancellation is tested in blocks of half a second
_FADE = SAMPLE_RATE_HZ // 50
_CANCELS, _HOLDS = 0.25, 0.5
"""Shares of the energy that the mix would have if its channels were independent.

Below the first, one channel replaces the mix, until the mix reaches the second again.
"""
_INAUDIBLE = 1e-10  # -100 dBFS
_PART = SAMPLE_RATE_HZ // 10  # the loudest channel is found for each tenth of a second
_MOST_COMPARED = 8  # channels
_NOTED_S = 1.0  # shorter cancellation gets no note


def weights(layout: Sequence[str]) -> np.ndarray:
    """The share of each channel in a mix, float32 [channels], with a sum of 1. Equal if a channel of the layout has no name."""
    if any(name == "NONE" for name in layout):
        return np.full(len(layout), 1 / len(layout), np.float32)
    shares = np.array([_WEIGHTS.get(name, _SURROUND) for name in layout], np.float32)
    if not shares.any():
        shares[:] = 1
    return np.asarray(shares / shares.sum())


class Mixer:
    """Mixes a stream of blocks, float32 [n, channels] at 16 kHz, into one channel of the same length.

    While the channels cancel each other out, because one has the wrong polarity, a single channel replaces the mix. This is the
    centre if the layout has one and it is loud enough, else the loudest.
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
        """Take a block, and yield the finished part of the mix, float32 [n]."""
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
        """Yield the rest of the mix. The stream ends here, or continues after a gap."""
        if self._count:
            yield self._mixed(np.concatenate(self._waiting))
        self._waiting, self._count = [], 0

    def notes(self) -> list[str]:
        """Sentences for the user about the channels."""
        notes = []
        if (seconds := sum(self._cancelled.values())) >= _NOTED_S:
            taken = max(self._cancelled, key=lambda channel: self._cancelled[channel])
            notes.append(f"its channels cancel each other out; for {seconds:.1f} s, channel {taken} replaces their mix")
        if self._compared and (pair := self._compared.different()):
            one, other = pair
            notes.append(f"its channels {one} and {other} hold different sound; if each is one speaker's, use --channels split")
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
        new = mix if self._taken is None else block[:, self._taken]
        if before == self._taken:
            return np.ascontiguousarray(new)
        old = mix if before is None else block[:, before]
        fade = np.minimum(np.arange(len(block), dtype=np.float32) / _FADE, 1)
        return np.asarray(old * (1 - fade) + new * fade)

    def _loudest(self, energies: np.ndarray) -> int:
        energies = np.where(self._weights > 0, energies, 0)
        if self._centre is not None and energies[self._centre] >= 0.01 * energies.max():
            return self._centre
        if self._taken is not None and energies[self._taken] >= 0.25 * energies.max():
            return self._taken
        return int(np.argmax(energies >= 0.5 * energies.max()))  # the first of several that are about as loud


class _Comparison:
    """Finds two channels with different speech: each is by far the loudest at times, and their correlation is low."""

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
        """The numbers of two such channels, or None."""
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
    """Passes on every channel of a stream, and finds those that are silent or copies of others."""

    _SAME, _SHARED = 0.999, 0.1
    _SILENT_DB = 1e-12

    def __init__(self, channels: int) -> None:
        self._products = np.zeros((channels, channels))
        self._count = 0

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the block, float32 [n, channels], unchanged."""
        self._products += block.T.astype(np.float64) @ block
        self._count += len(block)
        yield block

    def flush(self) -> Iterator[np.ndarray]:
        """Nothing is held back."""
        return iter(())

    def kept(self) -> tuple[list[int | None], list[str]]:
        """The channels that are neither silent nor a copy of an earlier one, at least one of them; and notes for the user."""
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
        copies = f"{len(same)} channels are copies of others and were left out"
        if len(same) == 1:
            copies = f"channel {same[0]} is a copy of another and was left out"
        notes = [copies] if same else []
        if shared:
            first, second = shared[0]
            notes.append(f"its channels {first} and {second} share sound; speech that both picked up has rows in both")
        return [*kept] or [0], notes

"""Decoding: any container or codec that PyAV reads, as mono float32 at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ

T = TypeVar("T")


@dataclass
class Audio:
    """A decoded recording: float32 [n], mono, 16 kHz, nominally in [-1, 1]."""

    samples: np.ndarray
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def clip(self, start: float, end: float) -> np.ndarray:
        """The samples from `start` to `end` seconds, a view."""
        return self.samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]

    def derived(self, key: str, compute: Callable[[np.ndarray], T]) -> T:
        """What `compute` makes of the samples, computed once: two stages that need the pitch track share it."""
        if key not in self._derived:
            self._derived[key] = compute(self.samples)
        return self._derived[key]  # type: ignore[no-any-return]

"""Whisper's own encoder (CTranslate2): mean and deviation of its states over the utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends.whisper_ct2 import load_whisper

if TYPE_CHECKING:
    from pathlib import Path

REQUIRES = ("faster_whisper", "ctranslate2")


class WhisperEncoder:
    """Shares its weights with recognition when both name the same model."""

    def __init__(self, folder: Path) -> None:
        self._whisper = load_whisper(folder)
        self.dimension = len(self._whisper.pooled(np.zeros(1600, np.float32)))

    def encode(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [len(clips), 2 * width]. Each clip is encoded alone: on a CPU a batch is no faster, and nothing is padded."""
        if not clips:
            return np.empty((0, self.dimension), np.float32)
        return np.stack([self._whisper.pooled(c) for c in clips])


def load(folder: Path) -> WhisperEncoder:
    """The encoder on the CTranslate2 Whisper model in `folder`."""
    return WhisperEncoder(folder)

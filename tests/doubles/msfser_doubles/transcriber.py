"""One word a second of audio. A recording that starts with a tone makes it fail: of 500 Hz for no reason, of 250 Hz for want of
memory; of 750 Hz, its row does not fit; of 2,000 Hz, it kills its process; of 3,000 Hz, it makes a file `asleep` and sleeps. In
one that starts with 1,000 Hz it hears a voice to the end, and recognises one word. Where its model has `warns`, it does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.store.audio import Samples

REQUIRES = ()


class Double:
    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        return [self._heard(*clip) for clip in zip(clips, languages, strict=True)]

    def _heard(self, samples: Samples, language: str | None) -> Transcript:
        hertz = _tone(samples[:1_600])
        if hertz == 500:
            raise RuntimeError("the double was told to fail")
        if hertz == 250:
            raise RuntimeError("CUDA out of memory: the double was told to say so")
        if hertz == 2000:
            os.kill(os.getpid(), signal.SIGKILL)
        if hertz == 3000:
            Path("asleep").touch()
            time.sleep(600)
        if hertz == 750:
            language = 7  # type: ignore[assignment]
        speech = bool(np.any(samples[:]))
        words = [Word(f"w{i}.", float(i), i + 0.9, 1.0) for i in range(len(samples) // 16_000)]
        if hertz == 1000:
            return Transcript(language or "en", None, words[:1], [(0.0, len(samples) / 16_000)])
        return Transcript(language or "en", None, words if speech else [], None if speech else [])

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        timed = ([Word(w, 0.0, 0.1, None, False) for w in text.split()] for text in texts)
        return [Transcript(language or "en", None, words) for language, words in zip(languages, timed, strict=True)]


def _tone(samples: np.ndarray) -> int | None:
    """The frequency in Hz of a tenth of a second of nothing but a tone."""
    powers = np.abs(np.fft.rfft(samples)) ** 2
    return 10 * int(powers.argmax()) if len(samples) == 1_600 and powers.max() > 0.95 * powers.sum() > 0 else None


def load(folder: Path, aligner: Path | None, settings: Any) -> Double:
    if os.path.exists(folder / "warns"):  # noqa: PTH110 - Path.exists raises where the folder may not be read
        logging.getLogger("msfser").warning("the double warns")
        print("the double prints", file=sys.stderr)
    return Double()

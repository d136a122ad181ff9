"""Recordings damaged at random: each is sound or has a reason, and none takes the process, its memory or for ever."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kit import audio_mutants
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.process


def test_a_damaged_recording_is_sound_or_has_a_reason(tmp_path: Path, trials: Callable[[str, int], Iterator[int]]) -> None:
    before = _peak_kib()
    for seed in trials("recordings damaged at random", 200):
        name, content = audio_mutants.mutant(seed)
        path = tmp_path / name
        path.write_bytes(content)
        try:
            samples = decode(path).samples
        except RecordingError:
            continue
        finally:
            path.unlink()
        assert len(samples), name
        assert np.isfinite(samples[:]).all(), name
    assert _peak_kib() < before + (1 << 20)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

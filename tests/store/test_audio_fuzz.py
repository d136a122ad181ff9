"""Recordings damaged at random: each is sound or has a reason, and none takes the process, its memory or for ever."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import audio_mutants
import numpy as np

from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import decode


def test_a_damaged_recording_is_sound_or_has_a_reason(tmp_path: Path, trials: Callable[[str, int], Iterator[int]]) -> None:
    for seed in trials("recordings damaged at random", 200):
        name, content = audio_mutants.mutant(seed)
        path = tmp_path / name
        path.write_bytes(content)
        try:
            samples = decode(path).samples
        except RecordingError as error:
            assert name not in error.detail
        else:
            assert len(samples)
            assert np.isfinite(samples[:]).all(), name
        path.unlink()
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        assert resource.getrusage(whose).ru_maxrss < 2 << 20  # KiB

"""No stage asks for more than a minute of a recording at once, and its rows are those of the whole array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from msfser_cli import schemas
from msfser_cli.runs import chain
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.settings import DescribeSettings, EmbedSettings, EmphasizeSettings, PredictSettings, TranscribeSettings
from msfser_cli.stages.work import Recording, Segment, Step, Work
from msfser_cli.store import arrow
from msfser_cli.store.audio import Audio, Samples, decode

EPISODE = Path(__file__).parents[2] / "recipes" / "quickstart" / "corpus" / "episode.mp3"
Clip = tuple[float, float]


def recording(first: Clip, pause: float, second: Clip) -> np.ndarray:
    """Two stretches of the episode, in seconds, with a long and almost silent pause between them."""
    audio = decode(EPISODE)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(round(pause * SAMPLE_RATE_HZ))
    return np.concatenate([audio.clip(*first), noise.astype(np.float32), audio.clip(*second)])


def stages(unit: str) -> list[Step]:
    settings: Any = {
        "transcribe": TranscribeSettings(unit=unit), "emphasize": EmphasizeSettings(), "describe": DescribeSettings(),
        "embed": EmbedSettings(), "predict": PredictSettings(),
    }  # fmt: skip
    return chain.plan(settings).load()


def annotated(steps: list[Step], samples: Samples, *segments: Segment) -> pa.Table:
    work = Work(Recording("a.flac", Path("a.flac"), segments), Audio(samples))
    for step in steps:
        step([work])
    return arrow.to_table(work.rows, schemas.columns_through("predict"))


@pytest.mark.one_in(3)
@pytest.mark.model
@pytest.mark.parametrize(("unit", "segments"), [
    ("utterance", ()),
    ("file", ()),
    ("utterance", (Segment(text="Welcome back to the lighthouse diary.", language="en"), Segment(start=1.0, speaker="keeper"))),
], ids=["utterances", "one utterance", "a manifest"])  # fmt: skip
def test_a_long_recording_is_never_in_memory(sparing: type, unit: str, segments: tuple[Segment, ...]) -> None:
    steps, samples = stages(unit), recording((0, 12), 80, (30, 38))
    with pytest.raises(AssertionError, match="s were sliced"):
        sparing(samples)[:]
    table = annotated(steps, sparing(samples), *segments)
    assert table.num_rows > 1 or unit == "file"
    assert None not in table["acoustic_vector"].to_pylist() + table["description"].to_pylist()
    assert table.equals(annotated(steps, samples, *segments))


def test_a_stretch_is_a_recording_of_its_own(sparing: type) -> None:
    samples = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    for start, end in ((0, 10), (2.5, 7.25), (9, 99), (10, 12), (3, 3)):
        stretch, clip = Audio(sparing(samples)).stretch(start, end), Audio(samples).clip(start, end)
        assert len(stretch) == len(clip)
        for part in (slice(None), slice(5, 900), slice(-100, None), slice(900, 5), slice(10**6, None), slice(0, 10**9)):
            np.testing.assert_array_equal(stretch[part], clip[part])

"""Sound as files that other programs play."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Samples

_BLOCK = 60 * SAMPLE_RATE_HZ
_OPUS_BITS_PER_SECOND = 32_000


def opus(samples: Samples) -> Iterator[bytes]:
    """The sound as Ogg Opus, piece by piece, at the times that msfser uses. The same samples give the same bytes."""
    written = io.BytesIO()
    with _opened(written, "ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = _OPUS_BITS_PER_SECOND
        for frame in _frames(samples):
            container.mux(stream.encode(frame))
            yield written.getvalue()
            written.seek(0)
            written.truncate()
        container.mux(stream.encode(None))
    yield written.getvalue()


def flac(samples: Samples) -> bytes:
    """The sound as FLAC with 16 bits. The same samples give the same bytes."""
    written = io.BytesIO()
    with _opened(written, "flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", options={"flags": "+bitexact"})
        stream.format = "s16"
        for frame in _frames(samples):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return written.getvalue()


def _opened(file: io.BytesIO, form: str) -> av.container.OutputContainer:
    # bitexact: no random numbers and no versions, so that the same sound gives the same bytes
    return av.open(file, "w", format=form, container_options={"fflags": "+bitexact"})


def _frames(samples: Samples) -> Iterator[av.AudioFrame]:
    for first in range(0, len(samples), _BLOCK):
        block = np.clip(samples[first : first + _BLOCK], -1, 1)
        frame = av.AudioFrame.from_ndarray(np.round(block * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, first
        yield frame

"""The card that tests/gpu run on: what it is, how much of its memory is taken, and how to leave little of it."""

from __future__ import annotations

import gc
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from unittest.mock import patch

import ctranslate2
import numpy as np
import torch

from msfser_cli.backends.encoders.transformers_speech import TransformersSpeech
from msfser_cli.backends.whisper_ct2 import load_whisper

CHUNKS = (1 << 30, 64 << 20, 12 << 20)
"""Bytes. torch takes memory from the card for a tensor of such a size alone."""
LITTLE = 200 << 20
"""Bytes. CUDA takes more for itself in each process, so that none can start on a card with so little memory left."""


@dataclass
class Peak:
    """The most memory that was taken at once, in bytes, beyond what was taken before."""

    bytes: int = 0

    @property
    def gib(self) -> float:
        return self.bytes / (1 << 30)


class Card(Protocol):
    """A GPU, or what stands for one in a trial without a GPU."""

    is_real: bool

    def about(self) -> dict[str, Any]:
        """Its name, memory and driver."""
        ...

    def taken(self) -> Any:
        """A context manager with the `Peak` of the whole card: what all processes take."""
        ...

    def computed_with(self) -> Any:
        """A context manager with the `Peak` of this process's tensors."""
        ...

    def left(self, spare: float) -> Any:
        """A context manager within which all of the memory is taken but for `spare` bytes."""
        ...


class Gpu:
    """The GPU of this machine."""

    is_real = True

    def about(self) -> dict[str, Any]:
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            driver = "unknown"
        return {"card": torch.cuda.get_device_name(), "memory_gib": round(torch.cuda.mem_get_info()[1] / (1 << 30), 1),
                "driver": driver, "ctranslate2_computes_in": sorted(ctranslate2.get_supported_compute_types("cuda"))}

    @contextmanager
    def taken(self) -> Iterator[Peak]:
        _tidy()
        before, peak, done = torch.cuda.mem_get_info()[0], Peak(), threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak.bytes = max(peak.bytes, before - torch.cuda.mem_get_info()[0])

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield peak
        finally:
            done.set()
            watcher.join()

    @contextmanager
    def computed_with(self) -> Iterator[Peak]:
        _tidy()
        torch.cuda.reset_peak_memory_stats()
        before, peak = torch.cuda.memory_allocated(), Peak()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated() - before

    @contextmanager
    def left(self, spare: float) -> Iterator[None]:
        _tidy()
        held = []
        for size in CHUNKS:
            with suppress(torch.OutOfMemoryError):
                while torch.cuda.mem_get_info()[0] > spare + size:
                    held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        try:
            yield
        finally:
            held.clear()
            _tidy()


def _tidy() -> None:
    """Give back what nothing needs any more, such as the models of other tests."""
    gc.collect()
    torch.cuda.empty_cache()


class NoGpu:
    """Stands for a GPU on a machine that has none. What an encoder takes is the size of its inputs, and `left` limits that."""

    is_real = False

    def about(self) -> dict[str, Any]:
        return {"card": "none: the CPU stands in for it"}

    @contextmanager
    def taken(self) -> Iterator[Peak]:
        yield Peak()

    @contextmanager
    def computed_with(self) -> Iterator[Peak]:
        peak = Peak()
        with self._measured(peak, float("inf")):
            yield peak

    @contextmanager
    def left(self, spare: float) -> Iterator[None]:
        with self._measured(Peak(), spare):
            yield

    @contextmanager
    def _measured(self, peak: Peak, most: float) -> Iterator[None]:
        statistics = TransformersSpeech.statistics

        def limited(encoder: TransformersSpeech, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            taken = max(tensor.nbytes for tensor in inputs.values())
            peak.bytes = max(peak.bytes, taken)
            if taken > most:
                raise torch.OutOfMemoryError(f"CUDA out of memory: {taken} bytes")
            return statistics(encoder, inputs)

        with patch.object(TransformersSpeech, "statistics", limited):
            yield


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """As on a machine without a GPU."""
    with ExitStack() as stack:
        stack.enter_context(patch("torch.cuda.is_available", lambda: False))
        stack.enter_context(patch("ctranslate2.get_cuda_device_count", lambda: 0))
        load_whisper.cache_clear()
        stack.callback(load_whisper.cache_clear)
        yield


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two vectors in the same row, relative to the length of the second."""
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


def spread(vectors: np.ndarray) -> float:
    """The smallest difference of two rows, relative to the length of one."""
    lengths = np.linalg.norm(vectors, axis=1)
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2) / lengths
    return float(distances[~np.eye(len(vectors), dtype=bool)].min())

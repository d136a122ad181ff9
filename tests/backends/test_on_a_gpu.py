"""What is decided for a GPU, on machines that have none: the card is made up, the rest is real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np
import pytest

from msfser_cli.backends.whisper_ct2 import Whisper
from msfser_cli.errors import ModelError

pytestmark = pytest.mark.model


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A GPU that is good at `precisions` and on which encoding more than `fits` items raises `error`.

    options: what the model was loaded with. tried: the sizes of the batches.
    """
    precisions = {"float32", "float16", "int8"}
    card: dict[str, Any] = {"precisions": precisions, "error": None, "fits": 0, "options": {}, "tried": []}

    class OnTheCard:
        def __init__(self, folder: str, **options: Any) -> None:
            card["options"] = options

        def feature_extractor(self, samples: np.ndarray) -> np.ndarray:
            return np.zeros((80, len(samples) // 160 + 1), np.float32)

        def encode(self, features: np.ndarray) -> ctranslate2.StorageView:
            card["tried"].append(len(features))
            if card["error"] and len(features) > card["fits"]:
                raise card["error"]
            return ctranslate2.StorageView.from_array(np.zeros((len(features), 500, 8), np.float32))

    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda device: card["precisions"])
    monkeypatch.setattr(faster_whisper, "WhisperModel", OnTheCard)
    return card


@pytest.mark.parametrize(("precisions", "chosen"), [({"float32", "float16"}, "float16"), ({"float32", "int8"}, "float32")])
def test_whisper_runs_on_the_gpu_in_half_precision_where_the_gpu_is_good_at_it(
    card: dict[str, Any], precisions: set[str], chosen: str
) -> None:
    card["precisions"] = precisions
    Whisper(Path("model"), "auto")
    assert (card["options"]["device"], card["options"]["compute_type"]) == ("cuda", chosen)


def test_a_gpu_that_cannot_run_whisper_is_named_before_any_recording_is(card: dict[str, Any]) -> None:
    card["error"] = RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
    with pytest.raises(ModelError, match=r"on the GPU \(Library libcublas\.so\.12 .*set CUDA_VISIBLE_DEVICES= to use the CPU"):
        Whisper(Path("model"), "auto")


def test_a_gpu_whose_memory_is_taken_is_a_shortage(card: dict[str, Any]) -> None:
    card["error"] = RuntimeError("CUDA failed with error out of memory")
    with pytest.raises(MemoryError, match="out of memory"):
        Whisper(Path("model"), "auto")


def test_where_the_gpus_memory_is_too_small_whispers_batches_are_smaller_from_then_on(card: dict[str, Any]) -> None:
    card |= {"error": RuntimeError("CUDA failed with error out of memory"), "fits": 3}
    whisper = Whisper(Path("model"), "auto")
    features = whisper.features([np.zeros(16_000, np.float32)]) * 8
    card["tried"].clear()
    assert len(whisper.encode(features)) == 8
    assert card["tried"] == [8, 4, 2, 2, 2, 2]
    card["tried"].clear()
    whisper.encode(features)
    assert card["tried"] == [2, 2, 2, 2]


BY_NAME = """
import ctypes, sys
import ctranslate2
from msfser_cli.backends import whisper_ct2

def is_loaded():
    try:
        return bool(ctypes.CDLL(sys.argv[1]))
    except OSError:
        return False

ctranslate2.get_cuda_device_count = lambda: 1
ctranslate2.get_supported_compute_types = lambda device: {"float16"}
whisper_ct2._device("auto")
print(is_loaded())
"""


@pytest.mark.process
def test_the_cublas_that_comes_with_torch_is_found_by_its_name() -> None:
    import torch

    if not (torch.version.cuda or "").startswith("12."):
        pytest.skip("this torch brings no cuBLAS 12")
    done = subprocess.run([sys.executable, "-c", BY_NAME, "libcublas.so.12"], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"

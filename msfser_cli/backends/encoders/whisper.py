"""The lower layers of Whisper's own encoder: the means of their states over the utterance, of the two halves side by side.

The first two thirds of the layers carry most of how something is said. The last third carries mostly the words. Small networks on
the lower layers transfer better from CREMA-D to EmoDB than networks on the last states. With the two halves side by side, a head
weighs them itself, and valence transfers better than from one mean of all.

CTranslate2 gives only the last states. So the layers are computed here, in float32, from the same verified weights.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.dense import dense
from msfser_cli.backends.encoders import windows
from msfser_cli.backends.loading import loading
from msfser_cli.backends.parallel import each
from msfser_cli.backends.whisper_ct2 import MAX_FRAMES, log_mel
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from msfser_cli.store.audio import Samples

REQUIRES = ("faster_whisper", "torch")

_FORMAT_VERSION = 6
_FLOATS = {0: np.float32, 4: np.float16}
_ITEM_BYTES = {0: 4, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2}
_DENSE = ("self_attention/linear_0", "self_attention/linear_1", "ffn/linear_0", "ffn/linear_1")


class WhisperEncoder:
    """The encoder of a CTranslate2 Whisper model. Each clip is encoded alone, because batches are not faster on a CPU.

    folder: the folder with model.bin. Raises ModelError if that file is not a floating-point Whisper model.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from faster_whisper.feature_extractor import FeatureExtractor

        arrays = _encoder_arrays(folder / "model.bin")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with loading(folder / "model.bin", "not a Whisper model of CTranslate2 in floating point"):
            layers = sum(name.endswith("/ffn/layer_norm/gamma") for name in arrays)
            self._keep(arrays, round(layers * 2 / 3))
            self._width, mels, _ = self._weights["conv1/weight"].shape
            self._extractor: Any = FeatureExtractor(feature_size=mels)
            self.dimension = 2 * self._width
            self.encode([np.zeros(SAMPLE_RATE_HZ, np.float32)])

    def _keep(self, arrays: Mapping[str, np.ndarray], layers: int) -> None:
        """Keep the weights up to and with the given number of layers."""
        import torch

        self._layers = [f"layer_{i}" for i in range(layers)]
        kept = ("conv1/", "conv2/", "position_encodings/", *(f"{layer}/" for layer in self._layers))
        self._weights = {
            name: torch.from_numpy(array.astype(np.float32)).to(self._device)
            for name, array in arrays.items()
            if name.startswith(kept)
        }
        self._dense = {
            name: dense(self._weights.pop(f"{name}/weight"), self._weights.pop(f"{name}/bias"))
            for name in (f"{layer}/{part}" for layer in self._layers for part in _DENSE)
        }

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """One vector per clip, float32 [len(clips), 2 width]. A clip of more than 30 s is encoded in equal parts."""
        vectors = [self._vector(clip) for clip in clips] if self._device == "cuda" else each(self._vector, clips)
        return np.array(vectors, np.float32).reshape(len(clips), self.dimension)

    def _vector(self, clip: Samples) -> np.ndarray:
        total, count = np.zeros((1, self.dimension)), 0
        for first, last in windows(len(clip), 30 * SAMPLE_RATE_HZ):
            states = self._states(clip[first:last])
            total = np.concatenate([total, states]).sum(axis=0, keepdims=True)
            count += len(states)
        mean: np.ndarray = total[0] / count
        return mean

    def _states(self, samples: np.ndarray) -> np.ndarray:
        """The means over each half of the layers of the states for at most 30 s, side by side: float32 [frames / 2, 2 width]."""
        import torch

        with torch.inference_mode():
            states = self._by_layer(samples)
            middle = (len(states) + 1) // 2
            halves = [torch.stack(half).mean(dim=0) for half in (states[:middle], states[middle:])]
            return torch.cat(halves, dim=1).cpu().numpy()

    def _by_layer(self, samples: np.ndarray) -> list[Tensor]:
        """The states of each layer for at most 30 s, float32 [frames / 2, width]."""
        import torch
        from torch.nn.functional import conv1d, gelu

        w = self._weights
        features = log_mel(self._extractor, samples)[:, :MAX_FRAMES]
        x = torch.from_numpy(np.pad(features, ((0, 0), (0, features.shape[1] % 2)))).to(self._device)
        x = gelu(conv1d(x, w["conv1/weight"], w["conv1/bias"], padding=1))
        x = gelu(conv1d(x, w["conv2/weight"], w["conv2/bias"], padding=1, stride=2)).T
        x = x + w["position_encodings/encodings"][: len(x)]
        states = []
        for layer in self._layers:
            x = x + self._attention(self._norm(x, f"{layer}/self_attention"), f"{layer}/self_attention")
            hidden = gelu(self._dense[f"{layer}/ffn/linear_0"](self._norm(x, f"{layer}/ffn")))
            x = x + self._dense[f"{layer}/ffn/linear_1"](hidden)
            states.append(x)
        return states

    def _attention(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        # The attention heads of all Whisper models have 64 dimensions.
        q, k, v = self._dense[f"{name}/linear_0"](x).view(1, len(x), 3, -1, 64).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v)  # fast only with the dimension of a batch
        return self._dense[f"{name}/linear_1"](attended[0].transpose(0, 1).reshape(x.shape))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import layer_norm

        gamma, beta = self._weights[f"{name}/layer_norm/gamma"], self._weights[f"{name}/layer_norm/beta"]
        return layer_norm(x, (self._width,), gamma, beta)


def _encoder_arrays(path: Path) -> dict[str, np.ndarray]:
    """The floating-point arrays under `encoder/` in a CTranslate2 model. ModelError if the file is not such a model.

    The file has the format's version, the model's name and revision, and the number of arrays. Then each array has its name,
    shape, type, length in bytes, and content. A name is stored as length, text and a zero (ctranslate2's specs/model_spec.py).
    """
    with (
        loading(path, "not a Whisper model of CTranslate2"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return _Reader(content).encoder_arrays()


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def encoder_arrays(self) -> dict[str, np.ndarray]:
        version, name = self._number("I"), self._text()
        if (version, name) != (_FORMAT_VERSION, "WhisperSpec"):
            raise ValueError(f"{name}, version {version} of the format")
        self._number("I")
        arrays = {}
        for _ in range(self._number("I")):
            name = self._text()
            shape = tuple(self._number("I") for _ in range(self._number("B")))
            kind, size = self._number("B"), self._number("I")
            if size != math.prod(shape) * _ITEM_BYTES[kind] or self._at + size > len(self._content):
                raise ValueError(f"{name} is cut short")
            if name.startswith("encoder/") and kind in _FLOATS:
                flat = np.frombuffer(self._content[self._at : self._at + size], _FLOATS[kind])
                arrays[name.removeprefix("encoder/")] = flat.reshape(shape)
            self._at += size
        return arrays

    def _number(self, kind: str) -> int:
        [value] = struct.unpack_from(f"<{kind}", self._content, self._at)
        self._at += struct.calcsize(kind)
        return int(value)

    def _text(self) -> str:
        length = self._number("H")
        self._at += length
        return self._content[self._at - length : self._at - 1].decode()


def load(folder: Path) -> WhisperEncoder:
    """The encoder of the CTranslate2 Whisper model in `folder`. ModelError otherwise."""
    return WhisperEncoder(folder)

"""How transformers' encoders are run: in half precision on a GPU, and in batches that fit into its memory."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NO_MEMORY = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What torch's allocator of the CPU, and the libraries of the GPU, say in a mere RuntimeError."""


def batches(lengths: Sequence[int], most: float) -> list[list[int]]:
    """The indices of `lengths` in batches alike in length, each at most `most` long with its padding, or of one item."""
    made: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if made and (len(made[-1]) + 1) * lengths[i] <= most:
            made[-1].append(i)
        else:
            made.append([i])
    return made


class Inference:
    """A model in evaluation mode, where and how it computes, and how much of it at once.

    precision: None for float16 on a GPU and float32 elsewhere; float32 where a weight is beyond float16.
    most: the longest batch, in the unit of the lengths. It is halved where memory was too small, and stays so.
    """

    def __init__(self, model: Any, most: float, precision: torch.dtype | None = None) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.most = most
        if precision is None:
            precision = torch.float16 if self.device == "cuda" else torch.float32
        largest = torch.finfo(precision).max
        if precision != torch.float32 and any((weight.abs() > largest).any() for weight in model.parameters()):
            precision = torch.float32
        self.precision = precision
        self.model: Any = model.eval().to(self.device, self.precision)

    def over(
        self, lengths: Sequence[int], encode: Callable[[list[int]], torch.Tensor]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """What `encode` makes of each of the batches of `lengths`, with the batch: finite numbers, without gradients.

        What is not finite in half precision is made again in float32; ArithmeticError where it is not in that either.
        MemoryError for a single item that memory is too small for.
        """
        import torch

        left = deque(batches(lengths, self.most))
        while left:
            chosen = left.popleft()
            try:
                with torch.inference_mode():
                    made = self._finite(encode, chosen)
            except (MemoryError, RuntimeError) as error:
                if not _is_for_memory(error):
                    raise
                if len(chosen) == 1:
                    raise MemoryError(f"the encoder has no memory for one item alone ({error})") from error
                made = None  # once the error is gone, so is what the model held
            if made is None:
                _free()
                self.most = len(chosen) * max(lengths[i] for i in chosen) / 2
                rest = [i for batch in (chosen, *left) for i in batch]
                left = deque([rest[j] for j in batch] for batch in batches([lengths[i] for i in rest], self.most))
            else:
                yield chosen, made

    def _finite(self, encode: Callable[[list[int]], torch.Tensor], chosen: list[int]) -> torch.Tensor:
        import torch

        made = encode(chosen)
        if not torch.isfinite(made).all() and self.precision != torch.float32:
            try:
                self.model.float()
                made = encode(chosen)
            finally:
                self.model.to(self.precision)
        if not torch.isfinite(made).all():
            raise ArithmeticError("the encoder's vectors are not finite")
        return made


def _is_for_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

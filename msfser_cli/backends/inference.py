"""Runs transformers' encoders: in half precision on a GPU, and in batches that fit into memory."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msfser_cli.errors import is_shortage

if TYPE_CHECKING:
    import torch


def batches(lengths: Sequence[int], most: float) -> list[list[int]]:
    """The indices of `lengths` in batches of similar length. A batch has one item, or at most `most` in all, padding included."""
    batched: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batched and (len(batched[-1]) + 1) * lengths[i] <= most:
            batched[-1].append(i)
        else:
            batched.append([i])
    return batched


class Inference:
    """A model in evaluation mode, with its device, its precision, and the size of its batches.

    precision: None: float16 on a GPU and float32 on a CPU. If a weight is too large for the precision, float32 is used.
    most: the size of the largest batch on a GPU, in the unit of the lengths. If memory is too small, it is halved for all later
    batches. On a CPU each item is computed alone, so that its result does not depend on others; batches are hardly faster there.
    """

    def __init__(self, model: Any, most: float, precision: torch.dtype | None = None) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.most = most if self.device == "cuda" else 0.0
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
        """Yields each batch of `lengths` (indices) and the result of `encode` for it: finite numbers, without gradients.

        If a result is not finite in half precision, it is computed again in float32. ArithmeticError if it is not finite then
        either. MemoryError if memory is too small for a single item.
        """
        import torch

        queue = deque(batches(lengths, self.most))
        while queue:
            chosen = queue.popleft()
            try:
                with torch.inference_mode():
                    result = self._finite(encode, chosen)
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                if len(chosen) == 1:
                    raise MemoryError(f"not enough memory to encode a single item ({error})") from error
                result = None  # the error goes out of scope first, and with it the tensors of its traceback
            if result is None:
                _free()
                self.most = len(chosen) * max(lengths[i] for i in chosen) / 2
                rest = [i for batch in (chosen, *queue) for i in batch]
                queue = deque([rest[j] for j in batch] for batch in batches([lengths[i] for i in rest], self.most))
            else:
                yield chosen, result

    def _finite(self, encode: Callable[[list[int]], torch.Tensor], chosen: list[int]) -> torch.Tensor:
        import torch

        result = encode(chosen)
        if not torch.isfinite(result).all() and self.precision != torch.float32:
            try:
                self.model.float()
                result = encode(chosen)
            finally:
                self.model.to(self.precision)
        if not torch.isfinite(result).all():
            raise ArithmeticError("the encoder's vectors are not finite")
        return result


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Runs models in batches that fit into memory, and transformers' encoders in half precision on a GPU."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from msfser_cli.errors import is_shortage

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass
class Batches:
    """Items of similar length in batches that fit into memory. If memory is too small for a batch, later ones are half its size.

    most: the size of the largest batch, which is its number of items times the longest length, in the unit of the lengths. A
    single item may be larger. 0: each item is computed alone. items: the most items of a batch; None: any number. equal: whether
    only items of equal length are computed together.
    """

    most: float
    items: int | None = None
    equal: bool = False

    def of(self, lengths: Sequence[int]) -> list[list[int]]:
        """The indices of `lengths` in batches, from the shortest to the longest."""
        batched: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batched and self._takes(len(batched[-1]), lengths[batched[-1][-1]], lengths[i]):
                batched[-1].append(i)
            else:
                batched.append([i])
        return batched

    def _takes(self, count: int, last: int, length: int) -> bool:
        """Whether a batch of `count` items, the longest of length `last`, takes one more of this length."""
        fits = (count + 1) * max(length, 1) <= self.most
        return fits and (self.items is None or count < self.items) and (last == length or not self.equal)

    def over(self, lengths: Sequence[int], compute: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
        """Yields each batch of `lengths` (indices) and the result of `compute` for it.

        MemoryError if memory is too small for a single item.
        """
        queue = deque(self.of(lengths))
        while queue:
            chosen = queue.popleft()
            try:
                result = compute(chosen)
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                if len(chosen) == 1:
                    raise MemoryError(f"not enough memory for a single item ({error})") from error
            else:
                yield chosen, result
                continue
            _free()  # after the except block: inside it, the traceback would keep the tensors alive
            self.most = len(chosen) * max(*(lengths[i] for i in chosen), 1) / 2
            rest = [i for batch in (chosen, *queue) for i in batch]
            queue = deque([rest[j] for j in batch] for batch in self.of([lengths[i] for i in rest]))


class Inference:
    """An encoder in evaluation mode, with its device, its precision, and its batches.

    precision: None: float16 on a GPU and float32 on a CPU. If a weight is too large for the precision, float32 is used.
    most: the size of the largest batch on a GPU, in the unit of the lengths. On a CPU each item is computed alone, so that its
    result does not depend on others; batches are hardly faster there.
    """

    def __init__(self, model: Any, most: float, precision: torch.dtype | None = None) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batches = Batches(most if self.device == "cuda" else 0.0)
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
        return self.batches.over(lengths, lambda chosen: self._finite(encode, chosen))

    def _finite(self, encode: Callable[[list[int]], torch.Tensor], chosen: list[int]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
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
    gc.collect()
    torch: Any = sys.modules.get("torch")  # Whisper on a CPU does without it
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()

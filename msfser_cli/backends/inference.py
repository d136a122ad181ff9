"""Runs models in batches that fit into memory, and transformers' encoders in half precision on a GPU."""

from __future__ import annotations

import gc
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from msfser_cli.backends.parallel import each
from msfser_cli.errors import is_shortage

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass
class Batches:
    """Items of similar length in batches that fit into memory. If memory is too small for a batch, later ones are half its size.

    most: the size of the largest batch, which is its number of items times the longest length, in the unit of the lengths. A
    single item may be larger. 0: each item is computed alone. items: the most items of a batch; None: any number. equal: whether
    only items of equal length are computed together. at_once: the number of batches that are computed at the same time.
    """

    most: float
    items: int | None = None
    equal: bool = False
    at_once: int = 1

    def of(self, lengths: Sequence[int]) -> list[list[int]]:
        """The indices of `lengths` in batches, from the shortest to the longest."""
        items = math.ceil(len(lengths) / self.at_once)  # at most, so that there is a batch for each of those at once
        items = items if self.items is None else min(items, self.items)
        batched: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batched and len(batched[-1]) < items and self._takes(len(batched[-1]), lengths[batched[-1][-1]], lengths[i]):
                batched[-1].append(i)
            else:
                batched.append([i])
        return batched

    def _takes(self, count: int, last: int, length: int) -> bool:
        """Whether memory allows a batch of `count` items, the longest of length `last`, to take one more of this length."""
        return (count + 1) * max(length, 1) <= self.most and (last == length or not self.equal)

    def over(self, lengths: Sequence[int], compute: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
        """Yields each batch of `lengths` (indices) and the result of `compute` for it.

        MemoryError if memory is too small for a single item.
        """
        queue = deque(reversed(self.of(lengths)))  # the longest first: at the end, no thread waits long for another
        while queue:
            now = [queue.popleft() for _ in range(1 if self.at_once == 1 else len(queue))]
            results = each(lambda chosen: _if_it_fits(compute, chosen), now, self.at_once)
            too_large = [chosen for chosen, result in zip(now, results, strict=True) if not result]
            yield from ((chosen, result[0]) for chosen, result in zip(now, results, strict=True) if result)
            if too_large:
                del results
                _free()
                self.most = min(len(chosen) * max(*(lengths[i] for i in chosen), 1) for chosen in too_large) / 2
                rest = [i for batch in (*too_large, *queue) for i in batch]
                queue = deque([rest[j] for j in batch] for batch in reversed(self.of([lengths[i] for i in rest])))


def _if_it_fits(compute: Callable[[list[int]], T], chosen: list[int]) -> list[T]:
    """The result of `compute`, in a list that is empty if memory is too small for it. MemoryError if it is for a single item."""
    try:
        return [compute(chosen)]
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        if len(chosen) == 1:
            raise MemoryError(f"not enough memory for a single item ({error})") from error
        return []


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

"""Dense layers by oneDNN on a CPU, with the weights in the layout in which it computes.

torch's own matrix products are half as fast on processors of AMD, and arrange the weights anew for every item. The operators are
those that torch's compiler writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def dense(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """The layer x W^T + b: from float32 [items, inputs] to [items, outputs], without gradients.

    weight: float32 [outputs, inputs]. bias: float32 [outputs].
    """
    import torch

    if not (weight.is_cpu and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    arranged = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, arranged, bias, "none", [], "")

"""Encoders: each module turns speech or text into vectors."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError

SAFELY = {"local_files_only": True, "trust_remote_code": False}
"""Arguments with which transformers loads a folder: it downloads nothing, and refuses code that comes with a model."""

_TRAINING_ONLY = ("masked_spec_embed",)


def windows(length: int, longest: int) -> list[tuple[int, int]]:
    """Start and end of the fewest equal parts of `length` samples with at most `longest` samples each.

    If `length` does not divide evenly, the first parts have one more sample.
    """
    parts = max(1, -(-length // longest))
    size, longer = divmod(length, parts)
    edges = [i * size + min(i, longer) for i in range(parts + 1)]
    return list(pairwise(edges))


def whole_model(kind: Any, folder: Path, *, without: str | None = None, **how: Any) -> Any:
    """The model of the class `kind` in `folder`.

    ModelError if weights are missing or not finite. transformers itself would fill missing weights with random numbers.
    without: weights whose names begin with this are not needed, and may be missing.
    """
    import torch

    model, loading = kind.from_pretrained(folder, output_loading_info=True, **SAFELY, **how)
    needed = [name for name in loading["missing_keys"] if not name.endswith(_TRAINING_ONLY)]
    if missing := sorted(name for name in needed if without is None or not name.startswith(without)):
        raise ModelError(
            f"{folder}: the model lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}; get it again"
        )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{folder}: {name} has numbers that are not finite; get the model again")
    return model

"""Encoders: vectors of speech and of text, one a file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError

SAFELY = {"local_files_only": True, "trust_remote_code": False}
"""How transformers loads a folder: nothing is fetched, and code that comes with a model is refused without asking."""

_TRAINING_ONLY = ("masked_spec_embed",)


def windows(length: int, longest: int) -> list[tuple[int, int]]:
    """Start and end of equal parts of `length` samples, of at most `longest` each; the first ones are longer by a sample."""
    parts = max(1, -(-length // longest))
    size, longer = divmod(length, parts)
    edges = [i * size + min(i, longer) for i in range(parts + 1)]
    return list(pairwise(edges))


def whole_model(kind: Any, folder: Path, *, without: str | None = None, **how: Any) -> Any:
    """The model of the class `kind` in `folder`. ModelError where weights are missing, which transformers would draw at random,
    or are not finite.

    without: the beginning of names of weights that nobody needs, and that may be missing.
    """
    import torch

    model, found = kind.from_pretrained(folder, output_loading_info=True, **SAFELY, **how)
    needed = [name for name in found["missing_keys"] if not name.endswith(_TRAINING_ONLY)]
    if missing := sorted(name for name in needed if without is None or not name.startswith(without)):
        raise ModelError(f"{folder}: it lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{folder}: {name} holds numbers that are not finite")
    return model

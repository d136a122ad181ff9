"""Encoders: vectors of speech and of text, one a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError

SAFELY = {"local_files_only": True, "trust_remote_code": False}
"""How transformers loads a folder: nothing is fetched, and code that comes with a model is refused without asking."""

_TRAINING_ONLY = ("masked_spec_embed",)


def whole_model(kind: Any, folder: Path, **how: Any) -> Any:
    """The model of the class `kind` in `folder`. ModelError where weights are missing, which transformers would draw at random,
    or are not finite.
    """
    import torch

    model, found = kind.from_pretrained(folder, output_loading_info=True, **SAFELY, **how)
    if missing := sorted(name for name in found["missing_keys"] if not name.endswith(_TRAINING_ONLY)):
        raise ModelError(f"{folder}: it lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{folder}: {name} holds numbers that are not finite")
    return model

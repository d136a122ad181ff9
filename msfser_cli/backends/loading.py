"""Loads models from folders: nothing is downloaded, no code of a model runs, and one error says what is wrong with a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError, MsfserError, ResourceError, is_shortage, shortage

SAFELY = {"local_files_only": True, "trust_remote_code": False}
"""Arguments with which transformers loads a folder: it downloads nothing, and refuses code that comes with a model."""

_TRAINING_ONLY = ("masked_spec_embed",)


@contextmanager
def loading(path: Path, problem: str) -> Iterator[None]:
    """The error of a block that loads the folder or file `path`, whatever a library raises. Errors of msfser pass.

    ModelError with the `problem`, such as `cannot load this model`. ResourceError if memory or open files ran out, because the
    model is then not at fault.
    """
    try:
        yield
    except MsfserError:
        raise
    except Exception as error:
        if is_shortage(error):
            raise ResourceError(f"{path}: {shortage(error)}") from error
        raise ModelError(
            f"{path}: {problem}: it may be damaged, incomplete or of another kind; get it again, or choose another "
            f"({type(error).__name__}: {error})"
        ) from error


def whole_model(kind: Any, folder: Path, *, without: str | None = None, **how: Any) -> Any:
    """The model of the class `kind` in `folder`.

    ModelError if weights are missing or not finite. transformers itself would fill missing weights with random numbers.
    without: weights whose names begin with this are not needed, and may be missing.
    """
    model, about = kind.from_pretrained(folder, output_loading_info=True, **SAFELY, **how)
    needed = [name for name in about["missing_keys"] if not name.endswith(_TRAINING_ONLY)]
    if missing := sorted(name for name in needed if without is None or not name.startswith(without)):
        raise ModelError(
            f"{folder}: the model lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}; get it again"
        )
    require_finite(folder, model.named_parameters())
    return model


def require_finite(path: Path, weights: Any) -> None:
    """ModelError if a weight has a number that is not finite. weights: pairs of name and tensor."""
    import torch

    for name, weight in weights:
        if not torch.isfinite(weight).all():
            raise ModelError(f"{path}: {name} has numbers that are not finite; get the model again")

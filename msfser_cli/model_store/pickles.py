"""Converts a pickle of weights to safetensors. `msfser models fetch` does this once. Only tensors are read from the pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError
from msfser_cli.store.atomic import replacing


def to_safetensors(pickle: Path, target: Path, output: Path) -> None:
    """Write the tensors of `pickle` to `target` under their own names. output: as for `replacing`.

    ModelError unless the pickle is a flat mapping of names to tensors, and these are not larger than the file. The caller must
    have checked the pickle's hash.
    """
    from safetensors.torch import save

    tensors = _tensors(pickle)
    with replacing(target, output) as file:
        file.write(save(tensors, {"format": "pt"}))


def _tensors(pickle: Path) -> dict[str, Any]:
    import torch

    size = pickle.stat().st_size
    total = 0
    _require_plain_archive(pickle, size)
    try:
        content = torch.load(pickle, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # only the first line: torch's message ends with advice to load the pickle unsafely
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{pickle}: refused, it has more than weights ({type(error).__name__}: {first[:300]}); use another model"
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{pickle}: refused, it has a {type(content).__name__} instead of tensors by name; use another model")
    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise ModelError(
                f"{pickle}: refused, {name!r:.80} is a {type(tensor).__name__} instead of a plain tensor; use another model"
            )
        tensor = tensor.detach()
        bytes_ = tensor.numel() * tensor.element_size()
        total += bytes_
        # Tied weights are stored once and counted twice. More than that is a small file that asks for much memory.
        if bytes_ > tensor.untyped_storage().nbytes() or total > 2 * size:
            raise ModelError(f"{pickle}: refused, {name!r:.80} would be larger in memory than in the file; use another model")
        shared = tensor.untyped_storage().data_ptr() in seen  # tied weights; safetensors stores a copy for each name
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(tensor.untyped_storage().data_ptr())
    return tensors


def _require_plain_archive(pickle: Path, size: int) -> None:
    """ModelError for a zip archive that would grow when it is read, or that has a name twice. Old pickles are not archives."""
    if not zipfile.is_zipfile(pickle):
        return
    try:
        with zipfile.ZipFile(pickle) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{pickle}: refused, the archive is damaged ({error}); fetch it again") from error
    names = [entry.filename for entry in entries]
    grows = any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries)
    if grows or sum(entry.file_size for entry in entries) > size or len(set(names)) < len(names):
        raise ModelError(
            f"{pickle}: refused, the archive is compressed, has overlapping parts, or has a name twice; use another model"
        )

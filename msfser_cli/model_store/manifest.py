"""The descriptions of models on disk: `models.json` of an export, and `receipt.json` of a converted model.

They contain no paths. Names of files and folders have no separators, and each file's hash is checked before the file is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msfser_cli.errors import ModelError
from msfser_cli.store.atomic import replacing

MANIFEST, RECEIPT = "models.json", "receipt.json"
_EXPORT_AGAIN = "fetch or export the model again"
_JSON_BYTES = 20_000_000
_FOLDER = re.compile(r"[\w-][\w.@-]*")
_TEXT = re.compile(r"(?!pytorch_model|tf_model|flax_model|adapter_)[\w-][\w.-]*\.(json|txt|model|jinja)")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.bin")
_SHA256, _REVISION, _SOURCE = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}"), re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class File:
    """The sha256 of a file, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Entry:
    """A published model in a folder.

    source: owner/name on the hub. revision: the commit. files: the files that msfser loads.
    converted_from: the sha256 of the pickle that the weights were converted from; "" if they are as published.
    """

    source: str
    revision: str
    license: str
    files: dict[str, File]
    converted_from: str = ""

    @property
    def identity(self) -> str:
        """The model's name in lineage."""
        return f"{self.source}@{self.revision}"


def loadable(names: list[str]) -> list[str]:
    """The files that msfser loads, of a published model's files: texts first, then safetensors or else CTranslate2's model.bin.

    If msfser can load none of the weights, only texts are returned. Pickles, code and files in subfolders are never loaded.
    """
    weights = sorted(name for name in names if _WEIGHTS.fullmatch(name))
    for choice in (["model.safetensors"], [name for name in weights if "-of-" in name], ["model.bin"]):
        if choice and set(choice) <= set(weights):
            weights = choice
            break
    return [*sorted(name for name in names if _TEXT.fullmatch(name) and name != RECEIPT), *weights]


def is_incomplete(names: list[str]) -> bool:
    """Whether these are only a part of a published model's files: texts without weights, or some of several weights files."""
    weights = [name for name in names if name.endswith(".safetensors") or not _TEXT.fullmatch(name)]
    shards = [int(match[1]) for name in loadable(names) if (match := re.fullmatch(r"model-\d+-of-(\d+)\.safetensors", name))]
    return not weights or (bool(shards) and len(shards) < max(shards))


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The models in an exported `folder`, by the names of their folders. ModelError if `models.json` is missing or damaged."""
    path = folder / MANIFEST
    if not path.exists():
        raise ModelError(f"{folder}: not a folder of models, it has no {MANIFEST}; make one with msfser models export")
    models = read_json(path).get("models")
    if not isinstance(models, dict):
        raise ModelError(f"{path}: the file lists no models; {_EXPORT_AGAIN}")
    for name in models:
        if not _FOLDER.fullmatch(name):
            raise ModelError(f"{path}: {name!r:.80} is not the name of a folder; {_EXPORT_AGAIN}")
    return {name: _entry(path, values) for name, values in models.items()}


def write_manifest(folder: Path, models: Mapping[str, Entry]) -> None:
    """Write `models.json` atomically."""
    _write(folder / MANIFEST, {"models": {name: asdict(entry) for name, entry in sorted(models.items())}})


def read_receipt(folder: Path) -> Entry | None:
    """The entry of the converted model in `folder`; None if there is no receipt. ModelError if it is damaged."""
    path = folder / RECEIPT
    return _entry(path, read_json(path)) if path.exists() else None


def write_receipt(folder: Path, entry: Entry) -> None:
    """Write `receipt.json` atomically. msfser uses the folder only if it has a receipt, so write it last."""
    _write(folder / RECEIPT, asdict(entry), folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in the JSON file `path`. ModelError if the file cannot be read, is too large, or has no JSON object."""
    try:
        if not path.is_file():  # a pipe would block
            raise ModelError(f"{path}: not a regular file")
        with path.open("rb") as file:
            raw = file.read(_JSON_BYTES + 1)
        if len(raw) > _JSON_BYTES:
            raise ModelError(f"{path}: the file has more than {_JSON_BYTES:,} bytes")
        values = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values


def _entry(path: Path, values: Any) -> Entry:
    try:
        files = {str(name): File(**about) for name, about in values["files"].items()}
        entry = Entry(**{**values, "files": files})
        valid = (
            _SOURCE.fullmatch(entry.source)
            and _REVISION.fullmatch(entry.revision)
            and isinstance(entry.license, str)
            and (entry.converted_from == "" or _SHA256.fullmatch(entry.converted_from))
            and all(_SHA256.fullmatch(f.sha256) and isinstance(f.size, int) and f.size >= 0 for f in files.values())
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: the file is damaged or not from msfser ({error!r:.200}); {_EXPORT_AGAIN}") from error
    foreign = next((name for name in files if not (_TEXT.fullmatch(name) or _WEIGHTS.fullmatch(name))), None)
    if not valid or foreign is not None:
        problem = f" ({foreign!r:.80} is not a file of a model)" if foreign else ""
        raise ModelError(f"{path}: the file is damaged or not from msfser{problem}; {_EXPORT_AGAIN}")
    return entry


def _write(path: Path, values: Mapping[str, Any], output: Path | None = None) -> None:
    with replacing(path, output) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")

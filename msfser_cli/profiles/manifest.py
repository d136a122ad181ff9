"""What lies in a folder of models, as data: `models.json` of an export, `receipt.json` of one model that was converted.

Nothing that they say is a path: names of files and of folders have no separators, and each file's hash is checked before use.
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
_JSON_BYTES = 20_000_000
_FOLDER = re.compile(r"[\w-][\w.@-]*")
_TEXT = re.compile(r"(?!pytorch_model|tf_model|flax_model|adapter_)[\w-][\w.-]*\.(json|txt|model|jinja)")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.bin")
_SHA256, _REVISION, _SOURCE = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}"), re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class File:
    """What is known of a file: its sha256, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Entry:
    """A published model in a folder: where it is from, the files that are loaded, and the sha256 of the pickle that they were
    converted from ("" where they are as published).
    """

    source: str
    revision: str
    license: str
    files: dict[str, File]
    converted_from: str = ""

    @property
    def identity(self) -> str:
        """What lineage calls it."""
        return f"{self.source}@{self.revision}"


def loaded(names: list[str]) -> list[str]:
    """Those of a published model's files that are loaded, weights last: texts, and safetensors or else CTranslate2's model.bin.

    Without weights at the end there are none that are loaded. Never among them: pickles, code, and what lies in folders.
    """
    weights = sorted(name for name in names if _WEIGHTS.fullmatch(name))
    for choice in (["model.safetensors"], [name for name in weights if "-of-" in name], ["model.bin"]):
        if choice and set(choice) <= set(weights):
            weights = choice
            break
    return [*sorted(name for name in names if _TEXT.fullmatch(name) and name != RECEIPT), *weights]


def cut_short(names: list[str]) -> bool:
    """Whether what is there of a published model is the beginning of it: texts without weights, or some of several weights."""
    weights = [name for name in names if name.endswith(".safetensors") or not _TEXT.fullmatch(name)]
    shards = [int(match[1]) for name in loaded(names) if (match := re.fullmatch(r"model-\d+-of-(\d+)\.safetensors", name))]
    return not weights or (bool(shards) and len(shards) < max(shards))


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The models in an exported `folder`, by the names of their folders. ModelError where it says anything else."""
    path = folder / MANIFEST
    if not path.exists():
        raise ModelError(f"{folder}: no {MANIFEST} in it; a folder of models is what msfser models export writes")
    models = read_json(path).get("models")
    if not isinstance(models, dict):
        raise ModelError(f"{path}: it names no models")
    for name in models:
        if not _FOLDER.fullmatch(name):
            raise ModelError(f"{path}: {name!r:.80} is no name of a folder")
    return {name: _entry(path, values) for name, values in models.items()}


def write_manifest(folder: Path, models: Mapping[str, Entry]) -> None:
    """Write `models.json`, whole or not at all."""
    _write(folder / MANIFEST, {"models": {name: asdict(entry) for name, entry in sorted(models.items())}})


def read_receipt(folder: Path) -> Entry | None:
    """What a converted model was made from; None where there is no such model. ModelError where it cannot be told."""
    path = folder / RECEIPT
    return _entry(path, read_json(path)) if path.exists() else None


def write_receipt(folder: Path, entry: Entry) -> None:
    """Write `receipt.json`, which makes the folder one that is used."""
    _write(folder / RECEIPT, asdict(entry), folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of bounded size. ModelError for anything else."""
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


def _entry(path: Path, values: Any) -> Entry:
    try:
        files = {str(name): File(**about) for name, about in values["files"].items()}
        entry = Entry(**{**values, "files": files})
        well = (
            _SOURCE.fullmatch(entry.source)
            and _REVISION.fullmatch(entry.revision)
            and isinstance(entry.license, str)
            and (entry.converted_from == "" or _SHA256.fullmatch(entry.converted_from))
            and all(_SHA256.fullmatch(f.sha256) and isinstance(f.size, int) and f.size >= 0 for f in files.values())
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not what msfser writes ({error!r:.200})") from error
    strange = next((name for name in files if not (_TEXT.fullmatch(name) or _WEIGHTS.fullmatch(name))), None)
    if not well or strange is not None:
        raise ModelError(f"{path}: not what msfser writes" + (f" ({strange!r:.80} is no file of a model)" if strange else ""))
    return entry


def _write(path: Path, values: Mapping[str, Any], output: Path | None = None) -> None:
    with replacing(path, output) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")

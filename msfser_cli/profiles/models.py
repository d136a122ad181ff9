"""From a model's name to a verified folder on this machine. Nothing is ever downloaded here, and no pickle is opened."""

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
from msfser_cli.profiles import RegisteredModel, registry
from msfser_cli.profiles.manifest import RECEIPT, Entry, cut_short, loaded, read_json, read_manifest, read_receipt
from msfser_cli.store.atomic import replacing, resources, sweep
from msfser_cli.store.lock import held

_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
_ASSEMBLING_SECONDS = 600.0  # to wait for another run that assembles the same model
_MOST = ((("layers", "n_layer"), 1000), (("hidden_size", "intermediate_size", "conv_dim", "d_model", "_heads"), 1 << 18),
         (("vocab_size", "max_position"), 1 << 24))
"""The largest sizes that a configuration may ask for, by words in their names: well above any published model's."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
MODELS_DIR, CACHE, WHEELS, HUB_CACHE = "models dir", "cache", "wheels", "hub cache"
"""Where a model may be, in the order in which they are looked at."""


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine: its folder, and the identity that lineage records."""

    path: Path
    identity: str


@dataclass(frozen=True)
class Part:
    """A file that is loaded: the files on disk which joined in order are it, and the hash that it must have ("": unknown)."""

    paths: tuple[Path, ...]
    digest: str

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def differs(self) -> bool:
        """Whether its content has another hash: a sha256, or the one that git has for a file."""
        if not self.digest:
            return False
        made = hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return _hashed(self.paths, made) != self.digest


@dataclass(frozen=True)
class Found:
    """A published model that is on this machine, not verified yet. `folder` holds `files`, except where `place` is `WHEELS`."""

    source: str
    revision: str
    license: str
    place: str
    folder: Path
    files: dict[str, Part]
    converted_from: str = ""

    @property
    def identity(self) -> str:
        """The same wherever it is."""
        return f"{self.source}@{self.revision}"

    @property
    def size(self) -> int:
        """Of what is loaded, in bytes."""
        return sum(part.size for part in self.files.values())


_SET_CACHE = "set MSFSER_CACHE to a folder that this user may write"


def cache_folder() -> Path:
    """Where models are put together and servers' answers remembered: `MSFSER_CACHE`, else msfser in the user's cache.

    ResourceError where neither is set and the user has no home.
    """
    if chosen := os.environ.get("MSFSER_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msfser"
    except RuntimeError as error:
        raise ResourceError(f"this user has no home folder, in which msfser keeps models; {_SET_CACHE}") from error


def models_dir() -> Path | None:
    """An exported folder that is looked at first, and never written to: `MSFSER_MODELS_DIR`, which --models-dir sets."""
    chosen = os.environ.get("MSFSER_MODELS_DIR")
    return Path(chosen).resolve() if chosen else None


@cache
def locate(name: str) -> ModelFolder:
    """The folder of `name`: a path, a name in the registry, or a hub's `owner/name[@revision]` that was fetched.

    Files whose hash the registry, a manifest or a receipt has are verified. ModelError, with the command that gets it, when the
    model is not here, and for one that is altered or unsafe.
    """
    if name and name not in registry() and Path(name).is_dir():
        return _safe(ModelFolder(Path(name).resolve(), folder_identity(Path(name))))
    found = find(name, models_dir())
    if found is None:
        raise MissingModelError(missing(name))
    if found.place == WHEELS:
        found = assembled(name, found)
    if name in registry():
        verify(name, found)
        return ModelFolder(found.folder, found.identity)
    if found.place != HUB_CACHE:
        verify(name, found)
    return _safe(ModelFolder(found.folder, found.identity))


def find(name: str, exported: Path | None = None) -> Found | None:
    """Where the published model `name` is, as a name in the registry or `owner/name[@revision]`; None where it is not here.

    exported: a folder that is looked into first. ModelError for a name that is neither, and for a manifest or a receipt that is
    not what msfser writes. Nothing is hashed.
    """
    if name in registry():
        return _find_registered(registry()[name], exported)
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"there is no model {name!r}: it is neither a folder, nor owner/name on a hub, nor one of {', '.join(registry())}"
        )
    source, _, revision = name.partition("@")
    return _find_published(source, revision, exported)


def verify(name: str, found: Found) -> None:
    """ModelError, with a line for each, where files are not those that were published, converted or exported."""
    problems = [
        f"{part.paths[0] if len(part.paths) == 1 else file}: not the published {file} of {found.identity} (its sha256 differs)"
        for file, part in found.files.items() if part.differs()
    ]  # fmt: skip
    if found.place in (MODELS_DIR, CACHE):
        known = {*found.files, RECEIPT} if found.place == CACHE else set(found.files)
        strange = sorted(path.name for path in found.folder.iterdir() if path.name not in known and not path.name.startswith("."))
        problems += [f"{found.folder / file}: no part of {found.identity}" for file in strange]
    if problems:
        again = "export it again" if found.place == MODELS_DIR else f"get it anew with: msfser models fetch {name}"
        raise ModelError(*problems[:-1], f"{problems[-1]}; {again}")


def target_folder(name: str, revision: str) -> Path:
    """Where a model is put together in the cache."""
    return cache_folder() / "models" / f"{name.replace('/', '--')}-{revision[:12]}"


def hub_folder(source: str, revision: str | None) -> Path | None:
    """The snapshot of a model in the hub's own cache, perhaps with only some of its files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def hub_part(path: Path, sha256: str = "") -> Part:
    """A file of a snapshot, which links to one whose name is its hash."""
    name = path.resolve().name
    return Part((path,), sha256 or (name if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else ""))


def checkpoint(name: str) -> ModelFolder:
    """The folder of an MSF-SER checkpoint: one that ships with the package, or a path. ModelError if there is none."""
    shipped = Path(__file__).parent.parent / "model" / "checkpoints"
    folder = shipped / name if name in ("mini",) else Path(name)
    if not name or not folder.is_dir():
        asked = f"there is no checkpoint {name!r}" if name else "this profile has no published head"
        raise ModelError(f"{asked}; name the folder of a trained one with --head")
    return ModelFolder(folder, folder_identity(folder))


def folder_identity(folder: Path) -> str:
    """The identity of a model that is known by its content alone: the folder's name, and a hash of its files."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".txt", ".jinja") and p.is_file())
    return f"{folder.name} sha256:{sha256(files)[:16]}"


def _find_registered(model: RegisteredModel, folder: Path | None) -> Found | None:
    about = (model.source, model.revision, model.license)
    needed = model.loaded
    if folder is not None and (entry := read_manifest(folder).get(model.name)):
        if (entry.source, entry.revision) != about[:2] or set(entry.files) != set(needed):
            raise ModelError(
                f"{folder / model.name}: {entry.source}@{entry.revision}, but this msfser needs {model.source}@{model.revision} "
                f"with {', '.join(needed)}; export it again"
            )
        return _exported(folder / model.name, entry, needed)
    target = target_folder(model.name, model.revision)
    receipt = read_receipt(target) if model.pickle else None
    if receipt is not None and model.files[model.pickle or ""] not in ("", receipt.converted_from):
        raise ModelError(f"{target}: not made from the published pickle; get it anew with: msfser models fetch {model.name}")
    if (receipt is not None or not model.pickle) and all((target / file).is_file() for file in needed):
        made = {} if receipt is None else {file: about.sha256 for file, about in receipt.files.items()}
        parts = {file: Part((target / file,), sha256 or made.get(file, "")) for file, sha256 in needed.items()}
        return Found(*about, CACHE, target, parts, receipt.converted_from if receipt else "")
    if model.wheels and (sources := _in_wheels(model)):
        return Found(*about, WHEELS, target, {file: Part(tuple(paths), model.files[file]) for file, paths in sources.items()})
    snapshot = None if model.pickle else hub_folder(model.source, model.revision)
    if snapshot is not None and all((snapshot / file).is_file() for file in needed):
        return Found(*about, HUB_CACHE, snapshot, {file: hub_part(snapshot / file, sha256) for file, sha256 in needed.items()})
    return None


def _find_published(source: str, revision: str, folder: Path | None) -> Found | None:
    if folder is not None:
        here = {key: entry for key, entry in read_manifest(folder).items()
                if entry.source == source and revision in ("", entry.revision)}  # fmt: skip
        if len(here) > 1:
            raise ModelError(f"{folder}: name one of {', '.join(sorted(entry.identity for entry in here.values()))}")
        for key, entry in here.items():
            return _exported(folder / key, entry, {})
    snapshot = hub_folder(source, revision or None)
    commit = revision if _COMMIT.fullmatch(revision) else snapshot.name if snapshot else ""
    target = target_folder(source, commit)
    if commit and (receipt := read_receipt(target)) is not None:
        if (receipt.source, receipt.revision) != (source, commit):
            raise ModelError(f"{target}: made from {receipt.source}@{receipt.revision}; delete the folder")
        parts = {file: Part((target / file,), about.sha256) for file, about in receipt.files.items()}
        return Found(source, commit, receipt.license, CACHE, _whole(target, parts), parts, receipt.converted_from)
    if snapshot is None:
        return None
    names = [path.name for path in snapshot.iterdir() if path.is_file()]
    if cut_short(names):
        return None
    files = loaded(names)
    return Found(source, snapshot.name, "", HUB_CACHE, snapshot, {file: hub_part(snapshot / file) for file in files})


def _exported(folder: Path, entry: Entry, registered: Mapping[str, str]) -> Found:
    """What a manifest says is in `folder`, where a registered hash counts more than the manifest's."""
    parts = {file: Part((folder / file,), registered.get(file) or about.sha256) for file, about in entry.files.items()}
    return Found(entry.source, entry.revision, entry.license, MODELS_DIR, _whole(folder, parts), parts, entry.converted_from)


def _whole(folder: Path, parts: Iterable[str]) -> Path:
    """`folder`; ModelError unless it is a real folder whose files are all there and are no links, which lead elsewhere."""
    for path in (folder, *(folder / file for file in parts)):
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise ModelError(f"{path}: missing, though it is listed ({error.strerror})") from error
        if not (stat.S_ISDIR(mode) if path == folder else stat.S_ISREG(mode)):
            raise ModelError(f"{path}: not a {'folder' if path == folder else 'regular file'}")
    return folder


def assembled(name: str, found: Found) -> Found:
    """The registered model that was found in wheels, joined in the cache."""
    target = found.folder
    try:
        with resources(target):
            target.mkdir(parents=True, exist_ok=True)
        with held(target, wait=_ASSEMBLING_SECONDS):
            for file, part in found.files.items():
                sweep(target / file)  # what a killed run left
                with replacing(target / file) as out:
                    for path in part.paths:
                        out.write(path.read_bytes())
    except ResourceError as error:
        raise ResourceError(f"the model {name} cannot be put together: {error}; {_SET_CACHE}") from error
    return _find_registered(registry()[name], None) or found


def missing(name: str) -> str:
    """What to say of a model that is not here: the command that gets it."""
    model = registry().get(name)
    if model is None:
        return f"model {name} is not on this machine; get it with: msfser models fetch {name}"
    packages = sorted({part.split("/")[0].replace("_", "-") for parts in model.wheels.values() for part in parts})
    command = f"pip install {' '.join(packages)}" if packages else f"msfser models fetch {name}"
    snapshot = hub_folder(model.source, model.revision) if model.pickle else None
    if snapshot is not None and model.pickle and (snapshot / model.pickle).is_file():
        return f"model {name} is here as a pickle, which can run code and is never loaded; convert it, offline, with: {command}"
    return f"model {name} ({model.source}) is not on this machine; get it with: {command}"


def _safe(model: ModelFolder) -> ModelFolder:
    """`model`, unless its weights are pickles, which can run code.

    ModelError also where its configuration would have other files read than the folder's own, or asks for absurd sizes.
    """
    if any(model.path.glob("pytorch_model*")) and not any(model.path.glob("model*.safetensors")):
        raise ModelError(
            f"{model.path}: its weights are a pickle, which can run code; convert them to safetensors where you trust them"
        )
    for index in model.path.glob("*.index.json"):
        parts = read_json(index).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(p, str) and _SHARD.fullmatch(p) for p in parts.values()):
            raise ModelError(f"{index}: it names weights that are not safetensors files beside it")
    config = model.path / "config.json"
    if config.exists():
        values = read_json(config)
        if "transformers_weights" in values:
            raise ModelError(f"{config}: it names a file of weights; weights are in model.safetensors")
        _require_sizes(config, values)
    return model


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


def sha256(files: Iterable[Path]) -> str:
    """Of the files joined in order."""
    return _hashed(files, hashlib.sha256())


def _hashed(files: Iterable[Path], digest: Any) -> str:
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return str(digest.hexdigest())

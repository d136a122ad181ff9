"""Profiles, as data: the settings of all stages under one name, such as `mini`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msfser_cli.errors import UsageError
from msfser_cli.model_store.registry import aligners, read_toml, registry
from msfser_cli.settings import PER_LANGUAGE

PROFILES = ("mini", "paper")
_FOLDER = Path(__file__).parent


def profile(name: str) -> dict[str, dict[str, Any]]:
    """The settings of the profile `name`, by stage. UsageError if there is no such profile."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return read_toml(_FOLDER / f"{name}.toml")


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

"""What a run knows of a stage: the models that it needs, and how to load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msfser_cli.model_store.models import ModelFolder
from msfser_cli.settings import Settings
from msfser_cli.stages.work import Step


@dataclass(frozen=True)
class Needs:
    """What a stage needs on this machine.

    settings: those of the user, completed by what is installed. models: role -> folder. notes: sentences for the user.
    """

    settings: Settings
    models: dict[str, ModelFolder] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One of the five stages. All three functions take its settings.

    needs: finds its models. Raises ModelError, with the command that installs it, if one is missing; UsageError if a back end
    does not exist. load: loads the models, by role, and returns the step. back_end: its back end's kind and name, for messages.
    """

    needs: Callable[[Any], Needs]
    load: Callable[[Any, Mapping[str, ModelFolder]], Step]
    back_end: Callable[[Any], str]

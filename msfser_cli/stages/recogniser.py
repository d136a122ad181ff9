"""The models of transcribe: the recogniser, its aligners and the diarizer."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msfser_cli import languages
from msfser_cli.backends.registry import backend, loaded
from msfser_cli.errors import MissingModelError, ModelError, UsageError
from msfser_cli.model_store.models import ModelFolder, locate
from msfser_cli.model_store.registry import aligners
from msfser_cli.settings import PER_LANGUAGE, TranscribeSettings
from msfser_cli.stages.stage import Needs, Stage
from msfser_cli.stages.transcribe import transcribe
from msfser_cli.stages.work import Step, Work

logger = logging.getLogger("msfser")


def _needs(settings: TranscribeSettings) -> Needs:
    models = {"transcriber": locate(settings.model)}
    notes: tuple[str, ...] = ()
    settings, aligner_folders = _aligned(_in_known_language(settings, models["transcriber"]))
    models |= aligner_folders
    if settings.language is None and settings.aligned_languages is not None:
        names = ", ".join(role.partition(":")[2] for role in aligner_folders)
        notes = (f"aligners: {names}; words of other languages get Whisper's word times",)
    if settings.diarize:
        models["diarizer"] = _diarizer(settings.diarize)
    backend("transcribers", settings.transcriber)
    return Needs(settings, models, notes)


def _load(settings: TranscribeSettings, models: Mapping[str, ModelFolder]) -> Step:
    from msfser_cli.backends import diarization

    each = {role.partition(":")[2]: folder.path for role, folder in models.items() if role.startswith("aligner:")}
    aligner = models["aligner"].path if "aligner" in models else each or None
    transcriber = loaded("transcribers", settings.transcriber, models["transcriber"].path, aligner, settings)
    diarizer = diarization.load(diarization.find(models["diarizer"].path)) if "diarizer" in models else None
    warned: set[str] = set()

    def step(works: Sequence[Work]) -> None:
        transcribe(works, transcriber, settings, diarizer)
        spoken = {row["language"] for work in works for row in work.rows if each and row["words"]}
        for language in sorted(spoken - set(each) - warned):
            warned.add(language)
            remedy = f"; get one with: {_fetching(language)}" if language in aligners() else ""
            logger.warning("no aligner for %s: its words get Whisper's word times%s", language, remedy)

    return step


STAGE = Stage(_needs, _load, lambda settings: f"transcriber {settings.transcriber}")


def _in_known_language(settings: TranscribeSettings, model: ModelFolder) -> TranscribeSettings:
    """The settings with the language as a code. Raises UsageError if it is not a language or the model does not know it."""
    if settings.language is None:
        return settings
    code = languages.code_of(settings.language)
    if code is None:
        raise UsageError(f"{settings.language!r} is not a language; write a code or a name, such as en or English, or leave out "
                         "--language to detect it")
    supported = known_languages(settings, model)
    if supported is not None and code not in supported:
        raise UsageError(f"the model {settings.model} does not know the language {settings.language!r}; choose one of "
                         f"{', '.join(sorted(supported))}")
    return replace(settings, language=code)


def known_languages(settings: TranscribeSettings, model: ModelFolder) -> frozenset[str] | None:
    """The codes of the transcriber's languages; None if it does not list them."""
    languages_of = getattr(backend("transcribers", settings.transcriber), "languages", None)
    return None if languages_of is None else languages_of(model.path)


def _aligned(settings: TranscribeSettings) -> tuple[TranscribeSettings, dict[str, ModelFolder]]:
    """The settings with the languages that have an aligner, and role -> folder of each aligner.

    Raises MissingModelError if an aligner that the settings name is not installed, or if no aligner is installed.
    """
    if not settings.aligner:
        return settings, {}
    requested = settings.aligned_languages
    if requested is None:
        return settings, {"aligner": locate(settings.aligner)}
    if settings.language:
        requested = (settings.language,)
    registered = aligners()
    if unknown := [language for language in requested if language not in registered]:
        raise ModelError(
            f"msfser has no aligner for {', '.join(unknown)}, only for {', '.join(sorted(registered))}; name one with "
            "--aligner, or use Whisper's word times with --aligner ''"
        )
    folders: dict[str, ModelFolder] = {}
    for language in requested or sorted(registered):
        try:
            folders[f"aligner:{language}"] = locate(registered[language])
        except MissingModelError as error:
            if requested:
                raise MissingModelError(f"{error}; or use Whisper's word times with --aligner ''") from error
    if not folders:
        raise MissingModelError(
            f"no aligner is on this machine; get one with: {_fetching('en')} (also for {', '.join(sorted(registered))}), or "
            "use Whisper's word times with --aligner ''"
        )
    languages = ",".join(role.partition(":")[2] for role in folders)
    return replace(settings, aligner=f"{PER_LANGUAGE}:{languages}"), folders


def _fetching(language: str) -> str:
    return f"msfser models fetch {aligners()[language]}"


def _diarizer(name: str) -> ModelFolder:
    """The folder of a complete pipeline. Raises MissingModelError, which says how to get one."""
    from msfser_cli.backends import diarization

    try:
        folder = locate(name)
    except MissingModelError as error:
        token = "" if os.environ.get("HF_TOKEN") else "set HF_TOKEN to a token of your account, "
        raise MissingModelError(
            f"model {name} is not on this machine, and it is gated: accept its terms on its page, {token}"
            f"then run: hf download {name}"
        ) from error
    pipeline = diarization.find(folder.path)
    return replace(folder, identity=pipeline.identity()) if Path(name).is_dir() else folder

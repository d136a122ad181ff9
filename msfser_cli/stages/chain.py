"""Makes the steps of a run from the settings of its stages, and describes them for the lineage of the table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msfser_cli import settings as st
from msfser_cli.backends import Row
from msfser_cli.backends.registry import backend, loaded
from msfser_cli.errors import MissingModelError, ModelError, UsageError
from msfser_cli.profiles import aligners, registry
from msfser_cli.profiles.models import ModelFolder, checkpoint, locate
from msfser_cli.stages import languages
from msfser_cli.stages.corpus import Recording
from msfser_cli.stages.embed import made_by
from msfser_cli.stages.manifest import notes_on_overlaps
from msfser_cli.store.audio import Audio
from msfser_cli.store.levels import levelled

if TYPE_CHECKING:
    from msfser_cli.model.intervals import Intervals

logger = logging.getLogger("msfser")

Step = Callable[[Recording, Audio, list[Row]], list[Row]]
"""A stage on one recording: takes its rows so far, returns its rows with the columns of the stage."""


@dataclass(frozen=True)
class Chain:
    """Consecutive stages with their settings. `plan` checks that every model is installed. `load` loads the models.

    notes: sentences for the user before the run.
    """

    settings: dict[str, st.Settings]
    models: dict[str, ModelFolder]
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.settings)

    @property
    def needs_audio(self) -> bool:
        """Whether a stage needs the audio. Only scoring vectors does not."""
        return self.stages != ("predict",)

    def backend_of(self, stage: str) -> str:
        """The kind and name of the stage's back end, for messages."""
        s = self.settings[stage]
        if isinstance(s, st.TranscribeSettings):
            return f"transcriber {s.transcriber}"
        if isinstance(s, st.EmphasizeSettings):
            return f"emphasizer {s.emphasizer}"
        if isinstance(s, st.DescribeSettings):
            return f"describer {s.kind}"
        if isinstance(s, st.EmbedSettings):
            return f"encoder {s.acoustic_encoder} or {s.text_encoder}"
        return "head"

    def identities(self) -> dict[str, str]:
        """Role -> name of the model with its revision or sha256."""
        return {role: folder.identity for role, folder in self.models.items()}

    def extra(self) -> dict[str, Any]:
        """`extra` of the lineage: the scale of the scores and the level of their intervals (null: no intervals)."""
        if "head" not in self.models:
            return {}
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        intervals = self.intervals()
        return {"scale": [config.low, config.high], "level": None if intervals is None else intervals.level}

    def intervals(self) -> Intervals | None:
        """The prediction intervals of the scores: those of the settings, else those of the head."""
        from msfser_cli.model.intervals import Intervals
        from msfser_cli.model.weights import load_intervals

        settings = self.settings["predict"]
        assert isinstance(settings, st.PredictSettings)
        text = settings.intervals
        return load_intervals(self.models["head"].path) if text is None else Intervals.from_json(text)

    def check_vectors(self, embed: Mapping[str, Any], models: Mapping[str, str]) -> None:
        """Raise ModelError if the head was trained on vectors of other encoders, or of another LES, than those of the table.

        embed: the settings of the table's embed stage. models: role -> identity of the table's models. Heads store the identity
        of their encoders. Older heads store the name only; if the registry does not know that model, msfser warns.
        """
        if "head" not in self.models:
            return
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        for role, trained in (("acoustic", config.acoustic_encoder), ("text", config.text_encoder)):
            of_table, by_name = (made_by(embed, role, config.streams, model) for model in (models.get(role), None))
            if trained in ("", of_table):
                continue
            head = self.models["head"].path
            if trained != by_name:
                raise ModelError(
                    f"{head}: this head was trained on the {role} vectors of {trained}, but the table has those of {of_table}; "
                    "embed with the encoder that it was trained on, or name another head with --head"
                )
            model = registry().get(embed[f"{role}_model"])
            if model is None or f"{model.source}@{model.revision}" != models.get(role):
                logger.warning("%s: this head stores only the name of its %s encoder, %s; the table has vectors of %s; make sure "
                               "that they are the same model", head, role, trained, of_table)

    @property
    def hearing(self) -> dict[str, Any]:
        """The arguments of `store.audio.decode` that the settings of `transcribe` give."""
        return hearing_of(st.as_dict(self.settings["transcribe"]))

    def known_languages(self) -> frozenset[str] | None:
        """The codes of the transcriber's languages; None if it does not list them, or the chain has no transcriber."""
        settings = self.settings.get("transcribe")
        return _known_languages(settings, self.models["transcriber"]) if isinstance(settings, st.TranscribeSettings) else None

    def load(self) -> list[Step]:
        """Load all models, and return the steps."""
        steps = {name: _STEPS[name](settings, self) for name, settings in self.settings.items()}
        return [_by_channel(step) if name in ("emphasize", "describe", "embed") else step for name, step in steps.items()]


def hearing_of(transcribe: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `store.audio.decode` that a lineage's settings of `transcribe` give. Empty if it has none of them."""
    return {name: transcribe[name] for name in ("channels", "audio_track") if name in transcribe}


def _by_channel(step: Step) -> Step:
    """`step` for a recording with rows of several channels. It gets the rows of each channel with the audio of that channel."""

    def each(recording: Recording, audio: Audio, rows: list[Row]) -> list[Row]:
        places: dict[int | None, list[int]] = {}
        for i, row in enumerate(rows):
            places.setdefault(row["channel"], []).append(i)
        done: dict[int, Row] = {}
        for channel, chosen in places.items():
            done |= zip(chosen, step(recording, audio.of_channel(channel), [rows[i] for i in chosen]), strict=True)
        return [done[i] for i in range(len(rows))]

    return each


def plan(settings: dict[str, st.Settings]) -> Chain:
    """The chain with these settings by stage.

    The settings of the chain list the languages that have an aligner. Raises ModelError, with the command that installs it, if a
    model is missing; UsageError if a back end does not exist.
    """
    models: dict[str, ModelFolder] = {}
    notes: tuple[str, ...] = ()
    settings = dict(settings)
    for name, s in settings.items():
        if isinstance(s, st.TranscribeSettings):
            models["transcriber"] = locate(s.model)
            s = _in_known_language(s, models["transcriber"])
            settings[name], aligner_folders = _aligned(s)
            models |= aligner_folders
            if s.language is None and s.aligned_languages is not None:
                languages = ", ".join(role.partition(":")[2] for role in aligner_folders)
                notes = (f"aligners: {languages}; words of other languages get Whisper's word times",)
            if s.diarize:
                models["diarizer"] = _diarizer(s.diarize)
            backend("transcribers", s.transcriber)
        elif isinstance(s, st.EmphasizeSettings):
            backend("emphasizers", s.emphasizer)
        elif isinstance(s, st.DescribeSettings):
            if model := backend("describers", s.kind).needs(s):
                models["describer"] = model
        elif isinstance(s, st.EmbedSettings):
            models["acoustic"] = locate(s.acoustic_model)
            models["text"] = locate(s.text_model)
            backend("encoders", s.acoustic_encoder)
            backend("encoders", s.text_encoder)
        elif isinstance(s, st.PredictSettings):
            models["head"] = checkpoint(s.head)
    return Chain(settings, models, notes)


def _in_known_language(settings: st.TranscribeSettings, model: ModelFolder) -> st.TranscribeSettings:
    """The settings with the language as a code. Raises UsageError if it is not a language or the model does not know it."""
    if settings.language is None:
        return settings
    code = languages.code_of(settings.language)
    if code is None:
        raise UsageError(f"{settings.language!r} is not a language; write a code or a name, such as en or English, or leave out "
                         "--language to detect it")
    supported = _known_languages(settings, model)
    if supported is not None and code not in supported:
        raise UsageError(f"the model {settings.model} does not know the language {settings.language!r}; choose one of "
                         f"{', '.join(sorted(supported))}")
    return replace(settings, language=code)


def _known_languages(settings: st.TranscribeSettings, model: ModelFolder) -> frozenset[str] | None:
    """The codes of the transcriber's languages; None if it does not list them."""
    languages_of = getattr(backend("transcribers", settings.transcriber), "languages", None)
    return None if languages_of is None else languages_of(model.path)


def _aligned(settings: st.TranscribeSettings) -> tuple[st.TranscribeSettings, dict[str, ModelFolder]]:
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
    return replace(settings, aligner=f"{st.PER_LANGUAGE}:{languages}"), folders


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


def _transcribe(settings: st.TranscribeSettings, chain: Chain) -> Step:
    from msfser_cli.backends import diarization
    from msfser_cli.stages.transcribe import joined, transcribe

    models = chain.models
    each = {role.partition(":")[2]: folder.path for role, folder in models.items() if role.startswith("aligner:")}
    aligner = models["aligner"].path if "aligner" in models else each or None
    transcriber = loaded("transcribers", settings.transcriber, models["transcriber"].path, aligner, settings)
    diarizer = diarization.load(diarization.find(models["diarizer"].path)) if "diarizer" in models else None
    warned: set[str] = set()

    def step(recording: Recording, audio: Audio, rows: list[Row]) -> list[Row]:
        recording_id, segments = recording.recording_id, recording.segments
        audio.notes += notes_on_overlaps([segments])
        by_channel = {
            part.channel: transcribe(recording_id, part, segments, transcriber, settings, diarizer) for part in audio.parts
        }
        audio.incomplete = next((part.incomplete for part in audio.parts if part.incomplete), None)
        audio.speech_seconds = _total(part.speech_seconds for part in audio.parts)
        audio.transcribed_seconds = _total(part.transcribed_seconds for part in audio.parts)
        rows = joined(recording_id, segments, by_channel)
        for language in sorted({row["language"] for row in rows if each and row["words"]} - set(each) - warned):
            warned.add(language)
            remedy = f"; get one with: {_fetching(language)}" if language in aligners() else ""
            logger.warning("no aligner for %s: its words get Whisper's word times%s", language, remedy)
        return rows

    return step


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one of the values is None."""
    values = list(seconds)
    return None if None in values else round(sum(s for s in values if s is not None), 3)


def _emphasize(settings: st.EmphasizeSettings, chain: Chain) -> Step:
    from msfser_cli.stages.emphasize import emphasize

    emphasizer = backend("emphasizers", settings.emphasizer).load(settings)
    return lambda recording, audio, rows: emphasize(audio, rows, emphasizer, settings)


def _describe(settings: st.DescribeSettings, chain: Chain) -> Step:
    from msfser_cli.stages.describe import describe

    describer = backend("describers", settings.kind).load(settings, chain.models.get("describer"))
    return lambda recording, audio, rows: describe(audio, rows, describer)


def _embed(settings: st.EmbedSettings, chain: Chain) -> Step:
    from msfser_cli.stages.embed import embed

    speech = loaded("encoders", settings.acoustic_encoder, chain.models["acoustic"].path)
    text = loaded("encoders", settings.text_encoder, chain.models["text"].path)
    return lambda recording, audio, rows: embed(levelled(audio), rows, speech, text, settings.les)


def _predict(settings: st.PredictSettings, chain: Chain) -> Step:
    from msfser_cli.model.scorer import Scorer
    from msfser_cli.stages.predict import predict

    scorer = Scorer(chain.models["head"].path, chain.intervals())
    return lambda recording, audio, rows: predict(rows, scorer)


_STEPS: dict[str, Any] = {
    "transcribe": _transcribe,
    "emphasize": _emphasize,
    "describe": _describe,
    "embed": _embed,
    "predict": _predict,
}

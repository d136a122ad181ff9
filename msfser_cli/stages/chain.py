"""The stages as steps on one recording, from their settings, and what a table's lineage says of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
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
from msfser_cli.store.audio import Audio
from msfser_cli.store.levels import levelled

if TYPE_CHECKING:
    from msfser_cli.model.intervals import Intervals

logger = logging.getLogger("msfser")

Step = Callable[[Recording, Audio, list[Row]], list[Row]]
"""What a stage does to one recording: its rows so far in, its rows with the stage's columns out."""


@dataclass(frozen=True)
class Chain:
    """Consecutive stages with their settings. Making one checks that every model is here; `load` loads them.

    notes: what a user is to know of it before it runs.
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
        """Whether any stage listens; scoring vectors does not."""
        return self.stages != ("predict",)

    def backend_of(self, stage: str) -> str:
        """The stage's back end as a user knows it: its kind and its name."""
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
        """The models by their role, with revision or sha256."""
        return {role: folder.identity for role, folder in self.models.items()}

    def extra(self) -> dict[str, Any]:
        """What else a reader of the table needs: the scale of the scores and the level of their intervals (null: none)."""
        if "head" not in self.models:
            return {}
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        known = self.intervals()
        return {"scale": [config.low, config.high], "level": None if known is None else known.level}

    def intervals(self) -> Intervals | None:
        """The prediction intervals that the scores will have: those of the settings, else the head's own."""
        from msfser_cli.model.intervals import Intervals
        from msfser_cli.model.weights import load_intervals

        settings = self.settings["predict"]
        assert isinstance(settings, st.PredictSettings)
        given = settings.intervals
        return load_intervals(self.models["head"].path) if given is None else Intervals.from_json(given)

    def check_vectors(self, embed: Mapping[str, Any], models: Mapping[str, str]) -> None:
        """ModelError where the head was trained on the vectors of other encoders than those of the table, or on another LES.

        embed: the table's settings; models: its models' identities by role. A head knows an encoder by its identity. Older heads
        know it by its name alone: unless the registry says which model that is, a warning says so.
        """
        if "head" not in self.models:
            return
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        for role, trained in (("acoustic", config.acoustic_encoder), ("text", config.text_encoder)):
            made, by_name = (made_by(embed, role, config.streams, model) for model in (models.get(role), None))
            if trained in ("", made):
                continue
            head = self.models["head"].path
            if trained != by_name:
                raise ModelError(
                    f"{head}: this head was trained on the {role} vectors of {trained}, these are of {made}; "
                    "embed with the encoder that it was trained on, or name another head with --head"
                )
            model = registry().get(embed[f"{role}_model"])
            if model is None or f"{model.source}@{model.revision}" != models.get(role):
                logger.warning("%s: this head knows its %s encoder only by the name %s, and these vectors are of %s; make sure "
                               "that they are the same model", head, role, trained, made)

    @property
    def hearing(self) -> dict[str, Any]:
        """How `transcribe` hears recordings, as arguments of `store.audio.decode`."""
        return hearing_of(st.as_dict(self.settings["transcribe"]))

    def known_languages(self) -> frozenset[str] | None:
        """The codes of the languages that the transcriber knows; None if it does not say, or the chain has none."""
        settings = self.settings.get("transcribe")
        return _known_languages(settings, self.models["transcriber"]) if isinstance(settings, st.TranscribeSettings) else None

    def load(self) -> list[Step]:
        """The stages, ready to run: models are loaded here and nowhere later."""
        steps = {name: _STEPS[name](settings, self) for name, settings in self.settings.items()}
        return [_by_channel(step) if name in ("emphasize", "describe", "embed") else step for name, step in steps.items()]


def hearing_of(transcribe: Mapping[str, Any]) -> dict[str, Any]:
    """How recordings were heard, as arguments of `store.audio.decode`, from the settings of `transcribe` in a lineage."""
    return {name: transcribe[name] for name in ("channels", "audio_track") if name in transcribe}


def _by_channel(step: Step) -> Step:
    """`step` for rows of several channels of a recording: each row is heard in its own channel."""

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

    ModelError, with the command that gets it, for a model that is not here; UsageError for a back end that there is not. Which
    languages have an aligner is settled here, and in the settings of the chain.
    """
    models: dict[str, ModelFolder] = {}
    notes: tuple[str, ...] = ()
    settings = dict(settings)
    for name, s in settings.items():
        if isinstance(s, st.TranscribeSettings):
            models["transcriber"] = locate(s.model)
            s = _in_known_language(s, models["transcriber"])
            settings[name], found = _aligned(s)
            models |= found
            if s.language is None and s.aligned_languages is not None:
                languages = ", ".join(role.partition(":")[2] for role in found)
                notes = (f"there is an aligner for {languages}; words of other languages have the times that Whisper gives",)
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
    """The settings with the code of their language; UsageError for one that is none, or that the model does not know."""
    if settings.language is None:
        return settings
    code = languages.code_of(settings.language)
    if code is None:
        raise UsageError(f"language must be a code or a name, such as en or English, not {settings.language!r}; leave it out "
                         "to have the language detected")
    known = _known_languages(settings, model)
    if known is not None and code not in known:
        raise UsageError(f"the model {settings.model} does not know the language {settings.language!r}; it knows "
                         f"{', '.join(sorted(known))}")
    return replace(settings, language=code)


def _known_languages(settings: st.TranscribeSettings, model: ModelFolder) -> frozenset[str] | None:
    """The codes of the languages that the transcriber knows; None if it does not say."""
    says = getattr(backend("transcribers", settings.transcriber), "languages", None)
    return None if says is None else says(model.path)


def _aligned(settings: st.TranscribeSettings) -> tuple[st.TranscribeSettings, dict[str, ModelFolder]]:
    """The aligners by their role, and the settings with the languages that they are of.

    MissingModelError where one is not here that was asked for, by its name or its language, and where there is none at all.
    """
    if not settings.aligner:
        return settings, {}
    asked = settings.aligned_languages
    if asked is None:
        return settings, {"aligner": locate(settings.aligner)}
    if settings.language:
        asked = (settings.language,)
    registered = aligners()
    if unknown := [language for language in asked if language not in registered]:
        raise ModelError(
            f"no aligner is registered for {', '.join(unknown)}, only for {', '.join(sorted(registered))}; name one with "
            "--aligner, or take Whisper's own word times with --aligner ''"
        )
    found: dict[str, ModelFolder] = {}
    for language in asked or sorted(registered):
        try:
            found[f"aligner:{language}"] = locate(registered[language])
        except MissingModelError as error:
            if asked:
                raise MissingModelError(f"{error}; or take Whisper's own word times with --aligner ''") from error
    if not found:
        raise MissingModelError(
            f"no aligner is on this machine; get one with: {_fetching('en')} (or another of {', '.join(sorted(registered))}), or "
            "take Whisper's own word times with --aligner ''"
        )
    languages = ",".join(role.partition(":")[2] for role in found)
    return replace(settings, aligner=f"{st.PER_LANGUAGE}:{languages}"), found


def _fetching(language: str) -> str:
    return f"msfser models fetch {aligners()[language]}"


def _diarizer(name: str) -> ModelFolder:
    """The folder of a pipeline, whose parts are all there. MissingModelError says what else it takes to get one."""
    from msfser_cli.backends import diarization

    try:
        folder = locate(name)
    except MissingModelError as error:
        token = "" if os.environ.get("HF_TOKEN") else "set HF_TOKEN to a token of your account, which is not set, "
        raise MissingModelError(
            f"model {name} is not on this machine, and such models are given out to those who ask: accept its terms on its page, "
            f"{token}and get it with: hf download {name}"
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
    told: set[str] = set()

    def step(recording: Recording, audio: Audio, rows: list[Row]) -> list[Row]:
        about = recording.recording_id, recording.segments
        heard = {part.channel: transcribe(about[0], part, about[1], transcriber, settings, diarizer) for part in audio.parts}
        audio.incomplete = next((part.incomplete for part in audio.parts if part.incomplete), None)
        rows = joined(*about, heard)
        for language in sorted({row["language"] for row in rows if each and row["words"]} - set(each) - told):
            told.add(language)
            remedy = f"; get one with: {_fetching(language)}" if language in aligners() else ""
            logger.warning("no aligner for %s: its words have the times that Whisper gives them%s", language, remedy)
        return rows

    return step


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

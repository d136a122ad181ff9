"""The stages as steps on one recording, from their settings, and what a table's lineage says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msfser_cli import settings as st
from msfser_cli.backends import Row
from msfser_cli.backends.registry import backend, loaded
from msfser_cli.errors import ModelError
from msfser_cli.profiles.models import ModelFolder, checkpoint, locate
from msfser_cli.stages.corpus import Recording
from msfser_cli.stages.embed import made_by
from msfser_cli.store.audio import Audio

if TYPE_CHECKING:
    from msfser_cli.model.intervals import Intervals

Step = Callable[[Recording, Audio, list[Row]], list[Row]]
"""What a stage does to one recording: its rows so far in, its rows with the stage's columns out."""


@dataclass(frozen=True)
class Chain:
    """Consecutive stages with their settings. Making one checks that every model is here; `load` loads them."""

    settings: dict[str, st.Settings]
    models: dict[str, ModelFolder]

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.settings)

    @property
    def needs_audio(self) -> bool:
        """Whether any stage listens; scoring vectors does not."""
        return self.stages != ("predict",)

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

        embed: the table's settings; models: its models' identities by role. A head knows an encoder by its name, and one that was
        trained with it by its identity.
        """
        if "head" not in self.models:
            return
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        for role, trained in (("acoustic", config.acoustic_encoder), ("text", config.text_encoder)):
            made = made_by(embed, role, config.streams, models.get(role, "") if " sha256:" in trained else None)
            if trained and made != trained:
                raise ModelError(
                    f"{self.models['head'].path}: this head was trained on the {role} vectors of {trained}, these are of {made}; "
                    "embed with what it knows, or name another head with --head"
                )

    def load(self) -> list[Step]:
        """The stages, ready to run: models are loaded here and nowhere later."""
        return [_STEPS[name](settings, self) for name, settings in self.settings.items()]


def plan(settings: dict[str, st.Settings]) -> Chain:
    """The chain with these settings by stage.

    ModelError, with the command that gets it, for a model that is not here; UsageError for a back end that there is not.
    """
    models: dict[str, ModelFolder] = {}
    for s in settings.values():
        if isinstance(s, st.TranscribeSettings):
            models["transcriber"] = locate(s.model)
            if s.aligner:
                models["aligner"] = locate(s.aligner)
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
    return Chain(settings, models)


def _transcribe(settings: st.TranscribeSettings, chain: Chain) -> Step:
    from msfser_cli.stages.transcribe import transcribe

    models = chain.models
    aligner = models["aligner"].path if "aligner" in models else None
    transcriber = loaded("transcribers", settings.transcriber, models["transcriber"].path, aligner, settings)

    def step(recording: Recording, audio: Audio, rows: list[Row]) -> list[Row]:
        return transcribe(recording.recording_id, audio, recording.segments, transcriber, settings)

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
    return lambda recording, audio, rows: embed(audio, rows, speech, text, settings.les)


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

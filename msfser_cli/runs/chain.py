"""Makes the steps of a run from the settings of its stages, and describes them for the lineage of the table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from msfser_cli import settings as st
from msfser_cli.errors import ModelError
from msfser_cli.model_store.models import ModelFolder
from msfser_cli.model_store.registry import registry
from msfser_cli.stages import describe, embed, emphasize, predict, recogniser
from msfser_cli.stages.stage import Stage
from msfser_cli.stages.work import Step

if TYPE_CHECKING:
    from msfser_cli.statistics.intervals import Intervals

logger = logging.getLogger("msfser")

STAGES: dict[str, Stage] = {
    "transcribe": recogniser.STAGE,
    "emphasize": emphasize.STAGE,
    "describe": describe.STAGE,
    "embed": embed.STAGE,
    "predict": predict.STAGE,
}


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
        return STAGES[stage].back_end(self.settings[stage])

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
        settings = self.settings["predict"]
        assert isinstance(settings, st.PredictSettings)
        return predict.intervals_of(settings, self.models)

    def check_vectors(self, embedding: Mapping[str, Any], models: Mapping[str, str]) -> None:
        """Raise ModelError if the head was trained on vectors of other encoders, or of another LES, than those of the table.

        embedding: the settings of the table's embed stage. models: role -> identity of the table's models. Heads store the
        identity of their encoders. Older heads store the name only; if the registry does not know that model, msfser warns.
        """
        if "head" not in self.models:
            return
        from msfser_cli.model.weights import load_config

        config = load_config(self.models["head"].path)
        for role, trained in (("acoustic", config.acoustic_encoder), ("text", config.text_encoder)):
            of_table, by_name = (embed.made_by(embedding, role, config.streams, model) for model in (models.get(role), None))
            if trained in ("", of_table):
                continue
            head = self.models["head"].path
            if trained != by_name:
                raise ModelError(
                    f"{head}: this head was trained on the {role} vectors of {trained}, but the table has those of {of_table}; "
                    "embed with the encoder that it was trained on, or name another head with --head"
                )
            model = registry().get(embedding[f"{role}_model"])
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
        if not isinstance(settings, st.TranscribeSettings):
            return None
        return recogniser.known_languages(settings, self.models["transcriber"])

    def shared_by(self, workers: int) -> Chain:
        """The chain for one of so many workers: together they ask a server as many questions at once as the settings say."""
        describing = self.settings.get("describe")
        if not isinstance(describing, st.DescribeSettings):
            return self
        share = replace(describing, describer_concurrency=max(1, describing.describer_concurrency // workers))
        return replace(self, settings={**self.settings, "describe": share})

    def load(self) -> list[Step]:
        """Load all models, and return the steps."""
        return [STAGES[name].load(settings, self.models) for name, settings in self.settings.items()]


def hearing_of(transcribe: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `store.audio.decode` that a lineage's settings of `transcribe` give. Empty if it has none of them."""
    return {name: transcribe[name] for name in ("channels", "audio_track") if name in transcribe}


def plan(settings: dict[str, st.Settings]) -> Chain:
    """The chain with these settings by stage.

    The settings of the chain list the languages that have an aligner. Raises ModelError, with the command that installs it, if a
    model is missing; UsageError if a back end does not exist.
    """
    needs = {name: STAGES[name].needs(s) for name, s in settings.items()}
    models = {role: folder for of_stage in needs.values() for role, folder in of_stage.models.items()}
    notes = tuple(note for of_stage in needs.values() for note in of_stage.notes)
    return Chain({name: of_stage.settings for name, of_stage in needs.items()}, models, notes)

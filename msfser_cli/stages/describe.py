"""describe: adds a description of the delivery to each utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msfser_cli import schemas
from msfser_cli.backends import Describer, Row
from msfser_cli.backends.registry import backend
from msfser_cli.model_store.models import ModelFolder
from msfser_cli.settings import DescribeSettings
from msfser_cli.stages.stage import Needs, Stage
from msfser_cli.stages.work import Step, Work
from msfser_cli.store.audio import Audio

_COLUMNS = schemas.names(schemas.DESCRIBE)


def describe(works: Sequence[Work], describer: Describer) -> None:
    """Add the columns of `schemas.DESCRIBE` to the rows of each recording."""
    heard: list[tuple[Work, list[tuple[Audio, list[Row]]]]] = []
    for work in works:
        with work.failing_alone():
            heard.append((work, work.by_channel()))
    channels = [channel for _, of_work in heard for channel in of_work]
    described = describer.describe([audio for audio, _ in channels], [rows for _, rows in channels])
    each = iter([_joined(rows, results) for (_, rows), results in zip(channels, described, strict=True)])
    for work, of_work in heard:
        work.replace_rows([next(each) for _ in of_work])


def _needs(settings: DescribeSettings) -> Needs:
    model = backend("describers", settings.kind).needs(settings)
    return Needs(settings, {"describer": model} if model else {})


def _load(settings: DescribeSettings, models: Mapping[str, ModelFolder]) -> Step:
    describer = backend("describers", settings.kind).load(settings, models.get("describer"))
    return lambda works: describe(works, describer)


STAGE = Stage(_needs, _load, lambda settings: f"describer {settings.kind}")


def _joined(rows: Sequence[Row], described: Sequence[Row]) -> list[Row]:
    return [{**row, **{name: result[name] for name in _COLUMNS}} for row, result in zip(rows, described, strict=True)]

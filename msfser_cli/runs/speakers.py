"""How each speaker of a table usually sounds, over all recordings: a first pass over the table, before its rows are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msfser_cli.backends.parallel import one_thread
from msfser_cli.backends.speakers import is_named
from msfser_cli.errors import UsageError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.source import Item, Source
from msfser_cli.settings import PredictSettings
from msfser_cli.stages.predict import BROUGHT, FEWEST, Reference, evidence


def with_references(chain: Chain, source: Source) -> Source:
    """The source, for `--reference speaker`: its rows bring the reference of their speaker with them.

    If a recording of a speaker is new or changed, the keys of all recordings of this speaker change, so they are scored again.
    UsageError if the source is not a table of vectors.
    """
    settings = chain.settings.get("predict")
    if not isinstance(settings, PredictSettings) or settings.reference != "speaker":
        return source
    if chain.needs_audio:
        raise UsageError(
            "--reference speaker: msfser has to know all voices before it scores the first; run msfser embed, and then msfser "
            "predict on its table"
        )
    return replace(source, items=_Referred(source.items, _references(chain, source)))


@dataclass
class _Heard:
    """What was heard of a speaker so far."""

    evidence: Any = 0.0
    utterances: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


@dataclass(frozen=True)
class _Referred:
    items: Iterable[Item]
    references: Mapping[str, Reference]

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            yield replace(item, rows=[{**row, BROUGHT: self.references.get(row["speaker"])} for row in item.rows])


def _references(chain: Chain, source: Source) -> dict[str, Reference]:
    """The references of the speakers that have one, by name."""
    from msfser_cli.model.scorer import Scorer

    scorer = Scorer(chain.models["head"].path)
    heard: dict[str, _Heard] = {}
    with one_thread():
        for item in source.items:
            rows = [row for row in item.rows if is_named(row["speaker"]) and row["acoustic_vector"] is not None]
            for row, of_row in zip(rows, evidence(rows, scorer) if rows else (), strict=True):
                speaker = heard.setdefault(row["speaker"], _Heard())
                speaker.evidence = speaker.evidence + of_row
                speaker.utterances += 1
                came_from = f"{row['utterance_id']}\0{item.input_line.input_key if item.input_line else ''}\0"
                speaker.digest.update(came_from.encode())
    return {
        name: Reference("speaker", speaker.evidence, speaker.utterances, speaker.digest.hexdigest())
        for name, speaker in heard.items()
        if speaker.utterances >= FEWEST
    }

"""How each speaker of a table usually sounds, over all recordings: a first pass over the table, before its rows are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from msfser_cli.backends.parallel import one_thread
from msfser_cli.backends.speakers import is_named
from msfser_cli.errors import UsageError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.source import Item, Source
from msfser_cli.schemas import PREDICT
from msfser_cli.settings import PredictSettings
from msfser_cli.stages.predict import BROUGHT, FEWEST, Reference, evidence
from msfser_cli.store import tables


def with_references(chain: Chain, source: Source) -> Source:
    """The source, for `--reference speaker`: its rows bring the reference of their speaker with them.

    If a recording of a speaker is new or changed, the keys of all recordings of this speaker change, so they are scored again.
    The first iteration over the items reads the table twice. UsageError if the source is not a whole table of vectors.
    """
    settings = chain.settings.get("predict")
    if not isinstance(settings, PredictSettings) or settings.reference != "speaker":
        return source
    if chain.needs_audio:
        raise UsageError(
            "--reference speaker: msfser has to know all voices before it scores the first; run msfser transcribe, emphasize, "
            "describe and embed, and then msfser predict on the table of embed"
        )
    if source.shard:
        raise UsageError(
            f"--reference speaker: the table holds shard {source.shard}, and the others have more of its speakers; join the "
            "tables of embed with msfser join first"
        )
    return replace(source, items=_Referred(source.items, chain))


def without_effect(reference: str | None, out: Path) -> str | None:
    """Why no row of the table of scores at `out` has a reference, in words. None if one has, or if the user asked for none.

    reference: the value of `--reference`; None if it was not given.
    """
    why = {
        "recording": f"no speaker has {FEWEST} utterances in one recording",
        "speaker": f"no speaker has {FEWEST} utterances; the column speaker has to name people",
    }.get(reference or "")
    if why is None:
        return None
    found = tables.read(out, [column for column in PREDICT if column.name == "reference"]).column("reference")
    return why if found.null_count == len(found) else None


@dataclass
class _Heard:
    """What was heard of a speaker so far. key: does not depend on the order."""

    evidence: np.ndarray
    utterances: int = 0
    key: int = 0


@dataclass(frozen=True)
class _Referred:
    items: Iterable[Item]
    chain: Chain

    @cached_property
    def references(self) -> dict[str, Reference]:
        return _references(self.chain, self.items)

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            yield replace(item, rows=[{**row, BROUGHT: self.references.get(row["speaker"])} for row in item.rows])


def _references(chain: Chain, items: Iterable[Item]) -> dict[str, Reference]:
    """The references of the speakers that have one, by name."""
    from msfser_cli.model.scorer import Scorer

    scorer = Scorer(chain.models["head"].path)
    heard: dict[str, _Heard] = {}
    with one_thread():
        for item in items:
            for i, of_row in evidence(item.rows, scorer).items():
                row = item.rows[i]
                if is_named(row["speaker"]):
                    speaker = heard.setdefault(row["speaker"], _Heard(np.zeros_like(of_row)))
                    speaker.evidence += of_row
                    speaker.utterances += 1
                    came_from = f"{row['utterance_id']}\0{item.input_line.input_key if item.input_line else ''}"
                    speaker.key ^= int.from_bytes(hashlib.sha256(came_from.encode()).digest(), "big")
    return {
        name: Reference("speaker", speaker.evidence, speaker.utterances, f"{speaker.key:064x}")
        for name, speaker in heard.items()
        if speaker.utterances >= FEWEST
    }

"""From the prominence of each word to the emphasised stretches of each utterance.

The most prominent words are the top `share` of the scored words, rounded, at least one, of those that score above 0, the
utterance's average: a delivery in which no word stands out has no emphasis. Words that follow one another join into one span.
An utterance with fewer than two scored words has none either: its only word has nothing to stand out from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msfser_cli.backends import Emphasizer, Row, writing
from msfser_cli.backends.registry import backend
from msfser_cli.model_store.models import ModelFolder
from msfser_cli.settings import EmphasizeSettings
from msfser_cli.stages.stage import Needs, Stage
from msfser_cli.stages.work import Step, Work
from msfser_cli.store.audio import Audio


def emphasize(works: Sequence[Work], emphasizer: Emphasizer, settings: EmphasizeSettings) -> None:
    """Add the columns of `schemas.EMPHASIZE` to the rows of each recording."""
    for work in works:
        with work.failing_alone():
            work.replace_rows([_emphasized(audio, rows, emphasizer, settings) for audio, rows in work.by_channel()])


def _needs(settings: EmphasizeSettings) -> Needs:
    backend("emphasizers", settings.emphasizer)
    return Needs(settings)


def _load(settings: EmphasizeSettings, models: Mapping[str, ModelFolder]) -> Step:
    emphasizer = backend("emphasizers", settings.emphasizer).load(settings)
    return lambda works: emphasize(works, emphasizer, settings)


STAGE = Stage(_needs, _load, lambda settings: f"emphasizer {settings.emphasizer}")


def _emphasized(audio: Audio, rows: Sequence[Row], emphasizer: Emphasizer, settings: EmphasizeSettings) -> list[Row]:
    results = emphasizer.emphasize(audio, rows)
    out = []
    for row, result in zip(rows, results, strict=True):
        spans = _spans(row, _most_prominent(result["emphasis"], settings.share), result["emphasis"])
        text = " ".join(span["text"] for span in spans) or None
        measured = {name: result[name] for name in ("emphasis", "emphasis_cues")}
        out.append({**row, **measured, "emphasis_spans": spans, "emphasized_text": text})
    return out


def _most_prominent(scores: Sequence[float | None], share: float) -> list[int]:
    """Indices of the most prominent words, in the words' order; of equal scores the earlier wins."""
    scored = [(score, i) for i, score in enumerate(scores) if score is not None]
    if len(scored) < 2:
        return []
    # Half rounds up: int(x + 0.5), as round() would take halves to even numbers.
    count = max(1, int(share * len(scored) + 0.5))
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:count]
    return sorted(i for score, i in best if score > 0)


def _spans(row: Row, chosen: Sequence[int], scores: Sequence[float | None]) -> list[Row]:
    runs: list[list[int]] = []
    for i in chosen:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    words = row["words"]
    text, places = in_place(row)
    return [
        {
            "text": text[slice(*writing.bare(text, (places[run[0]][0], places[run[-1]][1])))],
            "start": words[run[0]]["start"],
            "end": words[run[-1]]["end"],
            "first_word": run[0],
            "last_word": run[-1],
            "score": max(score for i in run if (score := scores[i]) is not None),
        }
        for run in runs
    ]


def in_place(row: Row) -> tuple[str, list[writing.Span]]:
    """The transcript of a row, and where in it each of its words stands.

    Where `words` do not make up `text`, because one of the two was edited, the words stand for the text.
    """
    words = [word["word"].strip() for word in row["words"]]
    for text in (row["text"], writing.joined(words)):
        if (places := writing.places(text, words)) is not None:
            return text, places
    raise AssertionError("words make up the text that they are joined to")

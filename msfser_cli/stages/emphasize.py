"""From the prominence of each word to the emphasised stretches of each utterance.

The most prominent words are the top `share` of the scored words, rounded, at least one, of those that score above 0, the
utterance's average: a delivery in which no word stands out has no emphasis. Words that follow one another join into one span.
An utterance with fewer than two scored words has none either: its only word has nothing to stand out from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msfser_cli.backends import Emphasizer, Row, spelling

if TYPE_CHECKING:
    from msfser_cli.settings import EmphasizeSettings
    from msfser_cli.store.audio import Audio


def emphasize(audio: Audio, rows: Sequence[Row], emphasizer: Emphasizer, settings: EmphasizeSettings) -> list[Row]:
    """The utterance rows of one recording with the columns of `schemas.EMPHASIZE`."""
    results = emphasizer.emphasize(audio, rows)
    out = []
    for row, result in zip(rows, results, strict=True):
        spans = _spans(row["words"], _most_prominent(result["emphasis"], settings.share), result["emphasis"], row["language"])
        text = " ".join(span["text"] for span in spans) or None
        out.append({**row, **result, "emphasis_spans": spans, "emphasized_text": text})
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


def _spans(words: Sequence[dict[str, Any]], chosen: Sequence[int], scores: Sequence[float | None], language: str) -> list[Row]:
    runs: list[list[int]] = []
    for i in chosen:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    space = "" if language in spelling.UNSPACED else " "
    return [
        {
            "text": _bare(space.join(words[i]["word"].strip() for i in run)),
            "start": words[run[0]]["start"],
            "end": words[run[-1]]["end"],
            "first_word": run[0],
            "last_word": run[-1],
            "score": max(score for i in run if (score := scores[i]) is not None),
        }
        for run in runs
    ]


def _bare(text: str) -> str:
    """`text` without the punctuation before its first and after its last letter or digit."""
    kept = [i for i, character in enumerate(text) if character.isalnum()]
    return text[kept[0] : kept[-1] + 1] if kept else ""

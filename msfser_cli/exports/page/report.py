"""Writes a report: a page for each recording, and one for the corpus."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from msfser_cli import __version__
from msfser_cli.errors import UsageError
from msfser_cli.exports.files import Folder
from msfser_cli.exports.names import folders, whole_path
from msfser_cli.exports.page.corpus import Corpus
from msfser_cli.exports.page.page import filled
from msfser_cli.exports.page.sound import KINDS, Sound, sound
from msfser_cli.exports.recordings import Recording, Table, Utterance
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store.objects import Location

_PAGES = "recordings"
_SCRIPTS = {"common": "common.js", "script": "index.js"}
_RECORDING_SCRIPTS = {"plot": "vendor/uPlot.iife.min.js", "common": "common.js", "script": "recording.js"}
_SOUND = "media-src file: http: https: data:"
_CAUTION = (
    "Scores are estimates with wide intervals. They help to find stretches worth listening to. They do not judge a person, and "
    "they do not compare languages, groups of speakers or recording conditions."
)


@dataclass(frozen=True)
class Reported:
    """What a report has. silent: recordings whose pages have no sound. kept: as in `exports.export.Exported`."""

    recordings: int
    silent: int
    kept: tuple[str, ...]


def report(
    scores: Path, out: Path, *, audio: str = "link", root: Location | None = None, overwrite: bool = False
) -> Reported:
    """Write the report of the table `scores` into the folder `out`. Arguments and errors are those of `exports.export.export`.

    audio: one of `KINDS`.
    """
    if audio not in KINDS:
        raise UsageError(f"--audio takes {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {audio!r}")
    table = Table.open(scores, root)
    corpus, silent = Corpus(table), 0
    with Folder.open(out, overwrite=overwrite) as folder:
        taken = folders(table.stems.values())
        for recording in table.recordings():
            stem = whole_path(recording.id) if f"{recording.stem}.html" in taken else recording.stem
            name = f"{_PAGES}/{stem}.html"
            heard = sound(recording, table, name, folder, audio)
            silent += heard.source is None
            folder.write(name, [_page(recording, heard, table)])
            corpus.add(recording, quote(name))
        folder.write("index.html", [_index(corpus, table)])
    return Reported(len(table.stems), silent, tuple(folder.kept))


def _index(corpus: Corpus, table: Table) -> bytes:
    return filled(
        "index.html", _SCRIPTS, corpus.data(), title=table.path.name, caution=_CAUTION, footer=_footer(),
    )  # fmt: skip


def _page(recording: Recording, heard: Sound, table: Table) -> bytes:
    depth = len(PurePosixPath(recording.stem).parts)
    return filled(
        "recording.html", _RECORDING_SCRIPTS, _data(recording, heard, table), allowed=_SOUND,
        title=recording.id, index="../" * depth + "index.html", footer=_footer(),
    )  # fmt: skip


def _footer() -> str:
    return f"Made by msfser {__version__}."


def _data(recording: Recording, heard: Sound, table: Table) -> dict[str, Any]:
    """What `recording.js` reads. Times are seconds, rounded to milliseconds."""
    speakers = [speaker for speaker in recording.speakers if speaker is not None]
    numbers = {speaker: i for i, speaker in enumerate(speakers)}
    wave = heard.waveform
    dimensions = [d for d in DIMENSIONS if d in table.names]
    return {
        "duration": max(recording.end, len(wave.peaks) / wave.per_second if wave else 0.0),
        "speakers": speakers,
        "dimensions": dimensions,
        "scale": table.lineage.extra.get("scale", [0, 1]),
        "audio": heard.source,
        "audio_name": PurePosixPath(recording.id).name,
        "note": heard.note,
        "peaks": base64.b64encode(wave.peaks).decode() if wave else "",
        "peaks_per_second": wave.per_second if wave else 1,
        "utterances": [
            _utterance(u, numbers, dimensions) for u in sorted(recording.utterances, key=lambda u: (u.start, u.end))
        ],
    }  # fmt: skip


def _utterance(utterance: Utterance, speakers: Mapping[str, int], dimensions: Sequence[str]) -> dict[str, Any]:
    scores = [utterance.scores.get(d) for d in dimensions]
    return {
        "start": round(utterance.start, 3), "end": round(utterance.end, 3),
        "speaker": None if utterance.speaker is None else speakers[utterance.speaker],
        "language": utterance.language, "text": "" if utterance.words else utterance.text, "words": _words(utterance),
        "emphasised": [i for i, word in enumerate(utterance.words) if word.emphasised], "description": utterance.description,
        "scores": [s and [_rounded(s.value), _rounded(s.low), _rounded(s.high)] for s in scores],
    }  # fmt: skip


def _words(utterance: Utterance) -> list[list[Any]]:
    """Each word as [text, ms after the end of the one before, ms long, prominence in hundredths], and what stands after it if
    that is no blank. A recording has tens of thousands of words, so they are short.
    """
    rows: list[list[Any]] = []
    at = round(utterance.start * 1000)
    for word in utterance.words:
        start, end = round(word.start * 1000), round(word.end * 1000)
        rows.append([word.text, start - at, end - start, None if word.prominence is None else round(word.prominence * 100)])
        if word.after != " ":
            rows[-1].append(word.after)
        at = end
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

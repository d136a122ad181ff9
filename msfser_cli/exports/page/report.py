"""Writes a report: a page for each recording, and one for the corpus."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from msfser_cli import __version__, processors
from msfser_cli.background import ahead
from msfser_cli.errors import UsageError
from msfser_cli.exports.files import Folder
from msfser_cli.exports.names import folders, whole_path
from msfser_cli.exports.page.corpus import Corpus
from msfser_cli.exports.page.page import filled
from msfser_cli.exports.page.sound import KINDS, Sound, copy_of, sound
from msfser_cli.exports.recordings import Recording, Rows, Table
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store.objects import Location

_PAGES = "recordings"
_MOST_DECODERS = 8  # each fills the disk with 230 MB for an hour
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
    taken = folders(table.stems.values())
    corpus, silent = Corpus(table), 0
    with Folder.open(out, overwrite=overwrite) as folder, closing(_with_sound(table, taken, folder, audio)) as heard:
        for recording, name, of in heard:
            silent += of.source is None
            if of.copy is not None:
                folder.write(copy_of(name), [of.copy])
            folder.write(name, [_page(recording, of, table)])
            corpus.add(recording, quote(name))
        folder.write("index.html", [_index(corpus, table)])
    return Reported(len(table.stems), silent, tuple(folder.kept))


def _with_sound(
    table: Table, taken: frozenset[str], folder: Folder, audio: str
) -> Generator[tuple[Recording, str, Sound], None, None]:
    """Each recording with the name of its page and its sound. Most of the time goes into decoders, processes of their own.

    taken: names of folders.
    """

    def heard(recording: Recording) -> tuple[Recording, str, Sound]:
        stem = whole_path(recording.id) if f"{recording.stem}.html" in taken else recording.stem
        name = f"{_PAGES}/{stem}.html"
        return recording, name, sound(recording, table, name, folder, audio)

    threads = 1 if audio == "none" else min(_MOST_DECODERS, processors.available())
    return ahead(table.recordings(), heard, threads, lambda in_hand, _: in_hand <= 2 * threads)


def _index(corpus: Corpus, table: Table) -> bytes:
    return filled(
        "index.html", _SCRIPTS, {"data": corpus.data()}, title=table.path.name, caution=_CAUTION, footer=_footer(),
    )  # fmt: skip


def _page(recording: Recording, heard: Sound, table: Table) -> bytes:
    depth = len(PurePosixPath(recording.stem).parts)
    return filled(
        "recording.html", _RECORDING_SCRIPTS, {"sound": heard.data(), "data": _data(recording, heard, table)}, allowed=_SOUND,
        title=recording.id, index="../" * depth + "index.html", footer=_footer(),
    )  # fmt: skip


def _footer() -> str:
    return f"Made by msfser {__version__}."


def _data(recording: Recording, heard: Sound, table: Table) -> dict[str, Any]:
    """What `recording.js` reads. Times are seconds, rounded to milliseconds."""
    speakers = [speaker for speaker in recording.speakers if speaker is not None]
    wave = heard.waveform
    dimensions = [d for d in DIMENSIONS if d in table.names]
    order = np.lexsort((recording.rows.end, recording.rows.start))
    return {
        "duration": max(recording.end, len(wave.peaks) / wave.per_second if wave else 0.0),
        "speakers": speakers,
        "dimensions": dimensions,
        "scale": table.lineage.extra.get("scale", [0, 1]),
        "name": PurePosixPath(recording.id).name,
        "utterances": _utterances(recording.rows, order, speakers, dimensions),
        "words": _words(recording.rows, order),
    }


def _utterances(rows: Rows, order: np.ndarray, speakers: Sequence[str], dimensions: Sequence[str]) -> dict[str, list[Any]]:
    """The utterances in `order`, by column: a recording has thousands. words: how many they have. text: of those without words.

    after: what stands after each word; null if that is a blank between words and nothing after the last. scores: of each
    dimension, the values, the lower and the upper ends.
    """
    numbers = {speaker: i for i, speaker in enumerate(speakers)}
    places = order.tolist()
    counts = np.diff(rows.bounds)[order].tolist()
    first = rows.bounds[order].tolist()
    after = [rows.words.after[start : start + count] for start, count in zip(first, counts, strict=True)]
    scores = rows.scores[order][:, [DIMENSIONS.index(d) for d in dimensions]].round(4)
    return {
        "start": rows.start[order].round(3).tolist(),
        "end": rows.end[order].round(3).tolist(),
        "speaker": [None if (speaker := rows.speaker[i]) is None else numbers[speaker] for i in places],
        "language": [rows.language[i] for i in places],
        "text": ["" if count else rows.text[i] for i, count in zip(places, counts, strict=True)],
        "words": counts,
        "after": [None if set(marks[:-1]) <= {" "} and marks[-1:] in ([], [""]) else marks for marks in after],
        "description": [rows.description[i] for i in places],
        "scores": [[list(map(_or_null, ends)) for ends in of.T.tolist()] for of in scores.transpose(1, 0, 2)],
    }


def _words(rows: Rows, order: np.ndarray) -> dict[str, list[Any]]:
    """The words of the utterances in `order`, by column: a recording has tens of thousands, so their times are short.

    gap: ms after the end of the word before, or the start of the utterance. length: in ms. prominence: in hundredths.
    emphasised: the numbers of words.
    """
    counts = np.diff(rows.bounds)[order]
    firsts = np.cumsum(counts) - counts  # the numbers, in order, of the first word of each utterance
    places = np.arange(counts.sum()) + np.repeat(rows.bounds[order] - firsts, counts)
    words = rows.words
    starts, ends = (np.rint(times[places] * 1000).astype(int) for times in (words.start, words.end))
    before = np.concatenate([[0], ends])[:-1]
    spoken = counts > 0
    before[firsts[spoken]] = np.rint(rows.start[order][spoken] * 1000)
    return {
        "text": [words.text[i] for i in places.tolist()],
        "gap": (starts - before).tolist(),
        "length": (ends - starts).tolist(),
        "prominence": [int(x) if isfinite(x) else None for x in (words.prominence[places] * 100).round().tolist()],
        "emphasised": np.flatnonzero(words.emphasised[places]).tolist(),
    }


def _or_null(value: float) -> float | None:
    return value if isfinite(value) else None

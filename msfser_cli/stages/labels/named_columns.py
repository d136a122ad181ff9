"""Tables with a header, or with keys: CSV, TSV, Parquet and JSON. `FORMATS` lists the layouts known by their columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.stages.labels.table import MSP_PODCAST_SCALE, NUMBERS, TEXTS, Labels, Scale, label_frame, mean_of_ratings
from msfser_cli.store import tables


@dataclass(frozen=True)
class LabelFormat:
    """A table layout. Names are compared without case, blanks and punctuation: `File Name` is `file_name` is `FileName`.

    signature: the columns that must all be there for the layout to be this one.
    columns: for each role, the names it may have, in tiers: a later tier counts only when no earlier one has a match, and two
    matches in one tier are refused.
    scale: the scale that the corpus declares, or None. ratings: a row is one rater's, and a label the mean of its raters'.
    """

    name: str
    signature: tuple[str, ...]
    columns: dict[str, tuple[tuple[str, ...], ...]]
    scale: Scale | None = None
    ratings: bool = False


MSP_PODCAST = LabelFormat(
    name="MSP-Podcast",
    signature=("filename", "emoact", "emoval", "emodom"),
    columns={
        "recording": (("filename",),),
        "valence": (("emoval",),),
        "arousal": (("emoact",),),
        "dominance": (("emodom",),),
        "speaker": (("spkrid",),),
        "gender": (("gender",),),
        "split": (("splitset",),),
    },
    scale=MSP_PODCAST_SCALE,
)

MSP_PODCAST_RATINGS = LabelFormat(
    name="MSP-Podcast labels_detailed, the mean of each file's workers",
    signature=(*MSP_PODCAST.signature, "emoclassmajor"),
    columns=MSP_PODCAST.columns,
    scale=MSP_PODCAST_SCALE,
    ratings=True,
)

NAMED_COLUMNS = LabelFormat(
    name="named columns",
    signature=(),
    columns={
        "recording": (
            ("recordingid",),
            ("file", "filename", "filepath", "path", "audio", "audiofile", "audiopath", "wav", "wavfile", "wavpath", "recording"),
            ("name", "id"),
            ("utteranceid", "utterance", "uttid", "segmentid"),
        ),
        "start": (("start", "starttime", "starts", "begin", "onset"),),
        "end": (("end", "endtime", "ends", "stop", "offset"),),
        "utterance_id": (("utteranceid",), ("utterance", "uttid", "segmentid")),
        "valence": (("valence", "emoval", "val", "v"),),
        "arousal": (("arousal", "activation", "emoact", "aro", "act", "a"),),
        "dominance": (("dominance", "emodom", "dom", "d"),),
        "speaker": (("speakerid", "spkrid"), ("speaker", "spkr"), ("actor",)),
        "gender": (("gender", "sex"),),
        "language": (("language", "lang"),),
        "split": (("split", "splitset"), ("partition", "subset", "set")),
    },
)

FORMATS = (MSP_PODCAST_RATINGS, MSP_PODCAST, NAMED_COLUMNS)
"""The layouts, the most particular first."""

_MISSING = ("", "na", "n/a", "nan", "nat", "null", "none")


@dataclass(frozen=True)
class Raw:
    """A file's columns before their roles are known; `rows` are line numbers in a text file, else numbers of rows or entries."""

    header: list[str]
    column: Callable[[int], pl.Series]
    rows: Sequence[int]
    row_word: str


def read(path: Path, raw: Raw) -> Labels:
    """The labels in the columns `raw` of the file `path`; LabelError for columns that cannot be told apart without guessing."""
    keys = [_key(name) for name in raw.header]
    layout = next(f for f in FORMATS if set(f.signature) <= set(keys))
    found = {role: i for role, tiers in layout.columns.items() if (i := _find(path, role, tiers, keys, raw.header)) is not None}
    _require_roles(path, layout, found, raw.header)
    if not raw.rows:
        raise LabelError(path, "holds no labels, only a header")

    frame = label_frame(path, {
        "row": pl.Series(raw.rows),
        **{role: _texts(path, raw, i) for role, i in found.items() if role in TEXTS},
        **{role: _numbers(path, raw, i) for role, i in found.items() if role in NUMBERS},
    }, row_word=raw.row_word)
    columns = {role: raw.header[i] for role, i in sorted(found.items(), key=lambda item: item[1])}
    return Labels(path, layout.name, columns, layout.scale, mean_of_ratings(frame) if layout.ratings else frame)


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _or(names: Iterable[str]) -> str:
    return " or ".join(repr(n) for n in names)


def _find(path: Path, role: str, tiers: tuple[tuple[str, ...], ...], keys: list[str], header: list[str]) -> int | None:
    for tier in tiers:
        matches = [i for i, key in enumerate(keys) if key in tier]
        if len(matches) > 1:
            raise LabelError(path, f"{_or(header[i] for i in matches)} may each be the {role}", "rename all but one")
        if matches:
            return matches[0]
    return None


def _require_roles(path: Path, layout: LabelFormat, found: dict[str, int], header: list[str]) -> None:
    def known(role: str) -> str:
        return ", ".join(name for tier in layout.columns[role] for name in tier)

    there = f"its columns are {', '.join(map(repr, header))}"
    if "recording" not in found:
        raise LabelError(path, f"no column names the recording ({there})", f"name it one of {known('recording')}")
    if not any(d in found for d in DIMENSIONS):
        raise LabelError(path, f"no column holds valence, arousal or dominance ({there})",
                         f"name them {'; '.join(known(d) for d in DIMENSIONS)}")
    if ("start" in found) != ("end" in found):
        has, lacks = ("start", "end") if "start" in found else ("end", "start")
        raise LabelError(path, f"{header[found[has]]!r} is the {has} of a segment, and no column is its {lacks}",
                         f"name one of {known(lacks)}, or rename {header[found[has]]!r}")


def _texts(path: Path, raw: Raw, index: int) -> pl.Series:
    try:
        texts = raw.column(index).cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError as e:
        raise LabelError(path, f"{raw.header[index]!r} cannot be read as text", "write it as a text column") from e
    return texts.set(texts.str.to_lowercase().is_in(_MISSING), None)


def _numbers(path: Path, raw: Raw, index: int) -> pl.Series:
    column = raw.column(index)
    if column.dtype != pl.String and not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise LabelError(path, f"{raw.header[index]!r} holds {column.dtype}, not numbers")
    if column.dtype == pl.String:
        column = _texts(path, raw, index)
    numbers = column.cast(pl.Float64, strict=False)
    wrong = (column.is_not_null() & numbers.is_null() | numbers.is_infinite()).arg_true()
    if len(wrong):
        at = wrong[0]
        raise LabelError(path, f"{raw.row_word} {raw.rows[at]} has {column[at]!r} under {raw.header[index]!r}, not a number",
                         "write numbers as 3.5, and nothing where there is none")
    return numbers.fill_nan(None)


def raw_text(path: Path) -> Raw:
    """A CSV or TSV: the separator is whichever of comma, tab and semicolon the header has most of. Text is UTF-8."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",\t;", key=first.count), strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise LabelError(path, "is empty", "the first line must name the columns")
            rows, cells = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise LabelError(path, f"line {reader.line_num} has {len(row)} cells, the header {len(header)}")
                rows.append(reader.line_num)
                cells.append(row)
    except OSError as e:
        raise LabelError(path, f"cannot be read ({e.strerror})", "name another label file") from e
    except UnicodeDecodeError as e:
        raise LabelError(path, "is not UTF-8 text", "save it as UTF-8, or as Parquet with a name ending in .parquet") from e
    except csv.Error as e:
        raise LabelError(path, f"line {reader.line_num} breaks the rules of CSV ({e})") from e
    return Raw(header, lambda i: pl.Series([row[i] for row in cells], dtype=pl.String), rows, "line")


def raw_parquet(path: Path) -> Raw:
    """A Parquet file, whose columns are read as they are asked for."""
    # Labels come from anywhere, so there is no lineage to check; polars is given only what Arrow has read and verified.
    header, rows = tables.foreign_names(path)

    def column(index: int) -> pl.Series:
        found = tables.read_foreign(path, [header[index]])
        if not found.num_columns:
            raise LabelError(path, f"{header[index]!r} holds lists or bytes, not numbers or text", "write it as a plain column")
        return pl.Series(found.column(0))

    return Raw(header, column, range(1, rows + 1), "row")


def raw_json(path: Path) -> Raw:
    """A list of objects, or an object of them by file name, as MSP-Podcast's labels_consensus.json; the keys are the columns.

    In place of a file's object there may be several, in a list or by name, such as the workers' of labels_detailed.json.
    """
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for text in (t for pair in pairs for t in pair if isinstance(t, str)):
            text.encode()  # half of a surrogate pair is no text, and a ValueError
        entry = dict(pairs)
        if len(entry) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise LabelError(path, f"holds {twice!r} twice in one object")
        return entry

    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=unique)
    except OSError as e:
        raise LabelError(path, f"cannot be read ({e.strerror})", "name another label file") from e
    except (ValueError, RecursionError) as e:  # of JSON, of UTF-8, or of a number of thousands of digits
        raise LabelError(path, f"is not JSON ({e})") from e
    entries = list(_entries(document))
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise LabelError(path, "is neither a list of objects nor an object of them by file name")
    header = list(dict.fromkeys(key for entry in entries for key in entry))

    def column(index: int) -> pl.Series:
        values = (entry.get(header[index]) for entry in entries)
        return pl.Series([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], dtype=pl.String)

    return Raw(header, column, list(range(1, len(entries) + 1)), "entry")


def _entries(document: Any) -> Iterable[Any]:
    """The objects in `document`, each with its file's name."""
    if isinstance(document, list):
        yield from document
    elif isinstance(document, dict):
        known = {name for tier in NAMED_COLUMNS.columns["recording"] for name in tier}
        for name, value in document.items():
            several = isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values())
            inside = value if isinstance(value, list) else list(value.values()) if several else [value]
            for entry in inside:
                named = not isinstance(entry, dict) or known & {_key(key) for key in entry}
                yield entry if named else {"FileName": name, **entry}

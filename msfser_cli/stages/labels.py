"""Label files as they ship, read into one table.

Columns are found by name, never by position; `FORMATS` lists the layouts known by their header. A label's scale is the format's
own, given by the user, or shown by the values themselves; otherwise the file is refused. Every refusal is a LabelError.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.errors import LabelError, UsageError
from msfser_cli.model.config import DIMENSIONS


class Scale(NamedTuple):
    """The ends of a rating scale, `low` below `high`."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Scale:
        """The scale written as LOW:HIGH; UsageError for anything else."""
        try:
            low, high = (float(end) for end in text.split(":"))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UsageError(f"a scale is written LOW:HIGH, as in 1:7 or -1:1, not {text!r}")
        return cls(low, high)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


KNOWN_SCALES = (Scale(0, 1), Scale(-1, 1), Scale(1, 5), Scale(1, 7), Scale(1, 9), Scale(0, 100))
"""The scales that may be read off the values: those of published V/A/D ratings."""

REACH = 0.2
"""Values show a scale when they lie within it and come within this share of its length to both of its ends. No two known scales
can be shown by the same values."""

STRAY = 0.05
"""The largest share of values that may lie outside a declared or given scale (IEMOCAP's 1..5 has a few averages of 5.5)."""


@dataclass(frozen=True)
class LabelFormat:
    """A table layout. Names are compared without case, blanks and punctuation: `File Name` is `file_name` is `FileName`.

    signature: the columns that must all be there for the layout to be this one.
    columns: for each role, the names it may have, in tiers: a later tier counts only when no earlier one has a match, and two
    matches in one tier are refused.
    scale: the scale that the corpus declares, or None.
    """

    name: str
    signature: tuple[str, ...]
    columns: dict[str, tuple[tuple[str, ...], ...]]
    scale: Scale | None = None


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
    scale=Scale(1, 7),
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

FORMATS = (MSP_PODCAST, NAMED_COLUMNS)
"""The layouts, the most particular first."""

NUMBERS = ("start", "end", *DIMENSIONS)
TEXTS = ("recording", "utterance_id", "speaker", "gender", "language", "split")
GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}
"""How genders are written, and what they are called here; any other is left as written."""
_MAY_BE_UNKNOWN = ("speaker", "gender", "language")
_MISSING = ("", "na", "n/a", "nan", "nat", "null", "none")


@dataclass(frozen=True)
class Labels:
    """A label file, read.

    columns: role -> the name it has in the file. scale: what the format declares, or None.
    frame: one row a label, in the file's order. `row` (its line or row number), `recording` (as the file writes it), `start` and
    `end` (s; null: the recording's own), `utterance_id`, `valence`, `arousal`, `dominance` (null where not rated), `speaker`,
    `gender` (`female`, `male` or as written), `language`, `split` (as written), and `cluster`: who varies together. That is the
    speaker; where it is unknown, the speaker or the podcast that a name of IEMOCAP or MSP-Podcast tells; else null. A column that
    the file lacks is all null.
    """

    path: Path
    format: str
    columns: dict[str, str]
    scale: Scale | None
    frame: pl.DataFrame

    @property
    def rated(self) -> tuple[str, ...]:
        """The dimensions that the file has a column for."""
        return tuple(d for d in DIMENSIONS if d in self.columns)


@dataclass(frozen=True)
class ResolvedScale:
    """The labels' scale and how it is known; `outside` counts the values beyond its ends."""

    scale: Scale
    source: str
    outside: int


@dataclass(frozen=True)
class _Raw:
    """A file's columns before their roles are known; `rows` are line numbers in a text file, row numbers in Parquet."""

    header: list[str]
    column: Callable[[int], pl.Series]
    rows: list[int]
    row_word: str


def read_labels(path: Path) -> Labels:
    """The labels in a CSV, TSV or Parquet file with named columns; LabelError for a file that cannot be read without guessing.

    A Parquet file is one whose name ends in .parquet; in any other the separator is whichever of comma, tab and semicolon the
    header has most of. Text is UTF-8.
    """
    raw = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    keys = [_key(name) for name in raw.header]
    layout = next(f for f in FORMATS if set(f.signature) <= set(keys))
    found = {role: i for role, tiers in layout.columns.items() if (i := _find(path, role, tiers, keys, raw.header)) is not None}
    _require_roles(path, layout, found, raw.header)
    if not raw.rows:
        raise LabelError(path, "holds no labels, only a header")

    frame = pl.DataFrame({
        "row": pl.Series(raw.rows, dtype=pl.Int64),
        **{role: _texts(path, raw, found.get(role)) for role in TEXTS},
        **{role: _numbers(path, raw, found.get(role)) for role in NUMBERS},
    })
    frame = _with_cluster(frame.with_columns(pl.when(pl.col(c).str.to_lowercase() != "unknown").then(c) for c in _MAY_BE_UNKNOWN))
    _check_rows(path, frame, raw.row_word)
    return Labels(path, layout.name, {role: raw.header[i] for role, i in found.items()}, layout.scale, frame)


def resolve_scale(labels: Labels, given: Scale | None = None) -> ResolvedScale:
    """The scale of `labels`: `given`, else the format's own, else the only known one that the values show.

    LabelError when the values show no scale, or when too many lie outside a given or declared one.
    """
    values = labels.frame.select(pl.concat_list(labels.rated).explode().drop_nulls().alias("value"))["value"]
    if values.is_empty():
        raise LabelError(labels.path, f"no row has a number under {_or(labels.columns[d] for d in labels.rated)}")
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    scale = given or labels.scale
    if scale is not None:
        outside = int(((values < scale.low) | (values > scale.high)).sum())
        source = "given" if given else f"declared by {labels.format}"
        if outside > STRAY * len(values):
            raise LabelError(labels.path, f"{outside} of {len(values)} values lie outside {scale}, the scale {source} (they run "
                             f"from {low:g} to {high:g})", "give the scale of these values with --scale LOW:HIGH")
        return ResolvedScale(scale, source, outside)

    shown = [s for s in KNOWN_SCALES if s.low <= low <= s.low + REACH * (s.high - s.low) and
             s.high - REACH * (s.high - s.low) <= high <= s.high]
    if len(shown) != 1:
        known = ", ".join(map(str, KNOWN_SCALES))
        raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, which shows none of the scales {known}",
                         "give it with --scale LOW:HIGH")
    [scale] = shown
    # Some corpora rate valence on -1..1 and arousal on 0..1; one scale for both would be wrong for one of them.
    if scale.low < 0:
        for dimension in labels.rated:
            lowest = labels.frame[dimension].min()
            if lowest is not None and lowest >= 0:  # type: ignore[operator]
                raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, but {labels.columns[dimension]!r} is "
                                 f"never below 0 and may be on 0..{scale.high:g}",
                                 f"if all columns are on {scale}, say --scale {scale.low:g}:{scale.high:g}; if not, rescale one")
    return ResolvedScale(scale, f"detected from values {low:g} to {high:g}", 0)


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


def _check_rows(path: Path, frame: pl.DataFrame, row_word: str) -> None:
    nameless = frame.filter(pl.col("recording").is_null())
    if nameless.height:
        raise LabelError(path, f"{row_word} {nameless['row'][0]} does not name its recording")
    backwards = frame.filter(pl.col("end") <= pl.col("start").fill_null(0))
    if backwards.height:
        raise LabelError(path, f"{row_word} {backwards['row'][0]} ends at {backwards['end'][0]:g} s, before it starts")


def _with_cluster(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with genders in one spelling and the column `cluster` of `Labels.frame`."""
    # A podcast has few speakers, so its turns of unknown speaker vary together; the speakers of an IEMOCAP session are two.
    podcast = pl.col("recording").str.extract(r"MSP-PODCAST_(\d+)_\d+")
    turn = pl.col("recording").str.extract_groups(r"(Ses\d\d)[FM]_(?:impro|script)\w*_([FM])(?:\d{3}|XX\d)")
    gender = pl.col("gender").str.to_lowercase().replace_strict(GENDERS, default=pl.col("gender"))
    return frame.with_columns(gender=gender, cluster=pl.coalesce(
        "speaker", pl.lit("podcast ") + podcast, turn.struct.field("1") + turn.struct.field("2")))


def _texts(path: Path, raw: _Raw, index: int | None) -> pl.Series:
    if index is None:
        return pl.Series([None] * len(raw.rows), dtype=pl.String)
    try:
        texts = raw.column(index).cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError as e:
        raise LabelError(path, f"{raw.header[index]!r} cannot be read as text", "write it as a text column") from e
    return texts.set(texts.str.to_lowercase().is_in(_MISSING), None)


def _numbers(path: Path, raw: _Raw, index: int | None) -> pl.Series:
    if index is None:
        return pl.Series([None] * len(raw.rows), dtype=pl.Float64)
    column = raw.column(index)
    if column.dtype != pl.String and not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise LabelError(path, f"{raw.header[index]!r} holds {column.dtype}, not numbers")
    if column.dtype == pl.String:
        column = _texts(path, raw, index)
    numbers = column.cast(pl.Float64, strict=False)
    wrong = (column.is_not_null() & numbers.is_null() | numbers.is_infinite()).arg_true()
    if len(wrong):
        at = wrong[0]
        raise LabelError(path, f"{raw.row_word} {raw.rows[at]} has {column[at]!r} under {raw.header[index]!r}, not a number")
    return numbers.fill_nan(None)


def _read_text(path: Path) -> _Raw:
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
        raise LabelError(path, f"cannot be read ({e.strerror})", "name the label file with --gold") from e
    except UnicodeDecodeError as e:
        raise LabelError(path, "is not UTF-8 text", "save it as UTF-8, or as Parquet with a name ending in .parquet") from e
    except csv.Error as e:
        raise LabelError(path, f"line {reader.line_num} breaks the rules of CSV ({e})") from e
    return _Raw(header, lambda i: pl.Series([row[i] for row in cells], dtype=pl.String), rows, "line")


def _read_parquet(path: Path) -> _Raw:
    # Labels come from anywhere, so there is no lineage to check; polars is given only what Arrow has read and verified.
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        header, rows = file.schema_arrow.names, file.metadata.num_rows
    except (OSError, pa.ArrowException) as e:
        raise LabelError(path, f"cannot be read as Parquet ({e})", "name the label file with --gold") from e

    def column(index: int) -> pl.Series:
        try:
            return pl.Series(file.read(columns=[header[index]]).column(0))
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as e:
            raise LabelError(path, f"{header[index]!r} cannot be read ({e})", "write the file again") from e

    return _Raw(header, column, list(range(1, rows + 1)), "row")

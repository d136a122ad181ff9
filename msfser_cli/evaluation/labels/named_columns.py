"""Reads label tables with named columns: CSV, TSV, Parquet and JSON. `FORMATS` lists the layouts."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from msfser_cli import languages
from msfser_cli.evaluation.labels.table import MSP_PODCAST_SCALE, TEXTS, Labels, Scale, label_frame, mean_of_ratings
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.tabular import Columns, roles
from msfser_cli.tabular.roles import TimeColumns


@dataclass(frozen=True)
class LabelFormat:
    """A table layout. Names of columns are compared as in `roles`.

    signature: a table with all of these columns has this layout. columns: role -> the possible names of its column.
    scale: the scale that the corpus declares, or None. ratings: a row is the rating of one person, and a label is their mean.
    """

    name: str
    signature: tuple[str, ...]
    columns: dict[str, roles.Tiers]
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
        "recording": (("recordingid",), roles.PATHS, ("name", "id"), ("utteranceid", "utterance", "uttid", "segmentid")),
        "utterance_id": (("utteranceid",), ("utterance", "uttid", "segmentid")),
        "valence": (("valence", "emoval", "val", "v"),),
        "arousal": (("arousal", "activation", "emoact", "aro", "act", "a"),),
        "dominance": (("dominance", "emodom", "dom", "d"),),
        "speaker": roles.SPEAKER,
        "gender": (("gender", "sex"),),
        "language": roles.LANGUAGE,
        "split": (("split", "splitset"), ("partition", "subset", "set")),
    },
)

FORMATS = (MSP_PODCAST_RATINGS, MSP_PODCAST, NAMED_COLUMNS)
"""The layouts, the most specific first."""


def read(columns: Columns) -> Labels:
    """The labels in a table. Raises LabelError if two columns may have the same role, or a needed column is missing."""
    header = columns.header
    keys = {roles.key(name) for name in header}
    layout = next(layout for layout in FORMATS if keys.issuperset(layout.signature))
    try:
        places = {role: index for role, tiers in layout.columns.items()
                  if (index := roles.find_role(header, role, tiers)) is not None}
        times = TimeColumns() if layout.signature else roles.time_columns(header)
    except roles.Ambiguous as error:
        columns.refuse(error.problem, error.remedy)
    _require_roles(columns, layout, places, times)
    if not columns.rows:
        columns.refuse("the table has a header but no rows", "name another label file")

    frame = label_frame(columns.path, {
        "row": pl.Series(columns.rows, dtype=pl.Int64),
        **{role: pl.Series(columns.texts(index), dtype=pl.String) for role, index in places.items() if role in TEXTS},
        **{role: pl.Series(columns.numbers(index), dtype=pl.Float64) for role, index in places.items() if role in DIMENSIONS},
        **_times(columns, times),
    }, row_word=columns.row_word)
    frame = frame.with_columns(pl.col("language").map_elements(lambda text: languages.code_of(text) or text, pl.String))
    places |= {role: column.index for role in ("start", "end", "duration") if (column := getattr(times, role)) is not None}
    names = {role: header[index] for role, index in sorted(places.items(), key=lambda item: item[1])}
    frame = mean_of_ratings(frame) if layout.ratings else frame
    return Labels(columns.path, layout.name, names, layout.scale, frame, columns.row_word)


def _times(columns: Columns, times: TimeColumns) -> dict[str, pl.Series]:
    """The start and end of each row's segment in seconds, if the table has them."""
    values = {role: pl.Series(columns.seconds(column.index, column.unit), dtype=pl.Float64)
              for role in ("start", "end", "duration") if (column := getattr(times, role)) is not None}
    duration = values.pop("duration", None)
    if duration is not None and "start" in values and "end" not in values:
        values["end"] = (values["start"] + duration).round(6)
    return values


def _require_roles(columns: Columns, layout: LabelFormat, places: dict[str, int], times: TimeColumns) -> None:
    def names(role: str) -> str:
        return ", ".join(name for tier in layout.columns[role] for name in tier)

    if "recording" not in places:
        columns.refuse(f"no column names the recording (its columns are {columns.shown()})",
                       f"rename the column to one of {names('recording')}")
    if not any(d in places for d in DIMENSIONS):
        columns.refuse(f"no column holds valence, arousal or dominance (its columns are {columns.shown()})",
                       f"rename the columns to {'; '.join(names(d) for d in DIMENSIONS)}")
    if times.start is not None and times.end is None and times.duration is None:
        columns.refuse(f"{columns.header[times.start.index]!r} is the start of a segment, but no column is its end",
                       "name a column end or duration, or rename this one")
    if times.end is not None and times.start is None:
        columns.refuse(f"{columns.header[times.end.index]!r} is the end of a segment, but no column is its start",
                       "name a column start, or rename this one")

"""Label files as they ship, read into one table.

`read_labels` tells the format by what is in the file and hands it to the module that reads it: `named_columns` (CSV, TSV, Parquet
and JSON, MSP-Podcast's consensus among them), `msp_podcast` (its raw ratings) or `iemocap` (its folders). Columns and values are
found by name, never by position. The scale is the format's own, given by the user, or shown by the values (`scale`). What cannot
be settled without guessing is refused with a LabelError.
"""

from __future__ import annotations

from pathlib import Path

from msfser_cli.errors import LabelError
from msfser_cli.stages.labels import iemocap, msp_podcast, named_columns
from msfser_cli.stages.labels.scale import KNOWN_SCALES, REACH, ResolvedScale, resolve_scale
from msfser_cli.stages.labels.table import Labels, Scale
from msfser_cli.stages.tabular import SUFFIXES, read_columns

__all__ = ["KNOWN_SCALES", "REACH", "Labels", "ResolvedScale", "Scale", "read_labels", "resolve_scale"]


def read_labels(path: Path) -> Labels:
    """The labels in a file, or in the folders of an IEMOCAP release; LabelError for what cannot be read without guessing.

    Parquet and JSON are files whose names end so. A text file is MSP-Podcast's labels.txt or an IEMOCAP dialog if its first line
    is one of theirs, else a table with named columns.
    """
    if path.is_dir():
        return iemocap.read_folder(path)
    if path.suffix.lower() not in SUFFIXES or path.suffix.lower() in (".csv", ".tsv"):
        first = _first_line(path)
        if iemocap.is_dialog(first):
            return iemocap.read_dialogs(path, [path])
        if msp_podcast.is_block(first):
            return msp_podcast.read_blocks(path)
    columns = read_columns(path, LabelError)
    if msp_podcast.has_ratings_in_a_cell(columns):
        return msp_podcast.read_cells(columns)
    return named_columns.read(columns)


def _first_line(path: Path) -> str:
    """The first line that is not blank, for telling the format; empty where there is none or the file cannot be read."""
    try:
        if not path.is_file():
            return ""  # a pipe would block
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return next((line.strip() for line in file if line.strip()), "")
    except OSError:
        return ""

"""Reads label files of several formats into one table.

`read_labels` detects the format from the content. The readers are `named_columns` (CSV, TSV, Parquet and JSON, including
MSP-Podcast's consensus labels), `msp_podcast` (its raw ratings) and `iemocap` (its folders). Columns are found by name, never by
position. The scale comes from the format, from the user, or from the values (see `scale`). If msfser would have to guess, it
raises LabelError.
"""

from __future__ import annotations

from pathlib import Path

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.labels import iemocap, msp_podcast, named_columns
from msfser_cli.evaluation.labels.scale import KNOWN_SCALES, REACH, ResolvedScale, resolve_scale
from msfser_cli.evaluation.labels.table import Labels, Scale
from msfser_cli.tabular import SUFFIXES, read_columns

__all__ = ["KNOWN_SCALES", "REACH", "Labels", "ResolvedScale", "Scale", "read_labels", "resolve_scale"]


def read_labels(path: Path) -> Labels:
    """The labels in a file, or in the folders of an IEMOCAP release.

    Parquet and JSON files are known by their suffix. MSP-Podcast's labels.txt and IEMOCAP's dialogs are known by their first
    line. Other files are tables with named columns. Raises LabelError if msfser would have to guess.
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
    """The first line that is not blank, to detect the format; empty if no line is, or if the file cannot be read."""
    try:
        if not path.is_file():
            return ""  # a pipe would block
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return next((line.strip() for line in file if line.strip()), "")
    except OSError:
        return ""

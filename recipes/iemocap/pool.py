"""Collects the scores of each session, by the head that was trained without it, in one table.

    python recipes/iemocap/pool.py OUT

OUT/Session<k>/scores.parquet has the scores of the whole corpus by the head without session k. The script writes its rows of
session k to OUT/scores/Session<k>.parquet. The folder OUT/scores is the table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow.compute as pc

from msfser_cli.errors import MsfserError
from msfser_cli.schemas import columns_through
from msfser_cli.store import tables
from msfser_cli.store.lineage import metadata


def pool(out: Path) -> None:
    """Write OUT/scores. TableError if a table is missing or damaged."""
    (out / "scores").mkdir(exist_ok=True)
    for session in range(1, 6):
        path = out / f"Session{session}" / "scores.parquet"
        scores = tables.read(path, columns_through("predict", vectors=False))
        held_out = scores.filter(pc.starts_with(scores["recording_id"], f"Session{session}/"))
        target = held_out.schema.with_metadata(metadata(tables.read_lineage(path)))
        tables.write(out / "scores" / path.parent.with_suffix(".parquet").name, [held_out], target)


def main() -> None:
    """Collect the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder with Session1 to Session5")
    try:
        pool(parser.parse_args().out)
    except (OSError, MsfserError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()

"""The manifest of an IEMOCAP release, each turn one utterance, and its labels with improvised and scripted turns told apart.

    python recipes/iemocap/manifest.py CORPUS OUT [--transcripts]

Reads the evaluations, the names of the wavs and, with --transcripts, the transcriptions of CORPUS/Session1 to Session5. Writes
OUT/manifest.csv and OUT/styles.csv. What is missing is counted on stderr, and leaves the rest as it is.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from msfser_cli.errors import MsfserError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.stages.labels import read_labels

_LINE = re.compile(r"(Ses\w+) \[[^\]]*\]:\s*(.*)")
_NOT_WORDS = re.compile(r"\[[A-Z]+\]")
"""[LAUGHTER], [BREATHING] and the like."""


def wav(turn: str) -> str:
    """Where below the corpus the wav of `turn` is."""
    return f"Session{int(turn[3:5])}/sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"


def transcriptions(corpus: Path) -> dict[str, str]:
    """The words of each turn, without the marks of what is no word; empty where nothing else is there."""
    words = {}
    for path in sorted(corpus.glob("Session[1-5]/dialog/transcriptions/Ses*.txt")):
        # Not splitlines: it also splits at the byte 85, which Windows writes for an ellipsis.
        for line in path.read_text("latin-1").split("\n"):
            if found := _LINE.match(line):
                words[found[1]] = " ".join(_NOT_WORDS.sub(" ", found[2]).split())
    return words


def manifest(corpus: Path, turns: pl.DataFrame, words: dict[str, str] | None) -> list[dict[str, str]]:
    """A row for each of the `turns` (the frame of its labels) that has a wav: `path` below the corpus, `start` (0: the wav is one
    utterance, even where nobody speaks), `speaker`, `language`, and `text` with `words` (empty where there are none: recognised).
    """
    there = {path.stem for path in corpus.glob("Session[1-5]/sentences/wav/*/Ses*.wav")}
    rows = [
        {"path": wav(turn), "start": "0", "speaker": speaker, "language": "en"}
        | ({} if words is None else {"text": words.get(turn, "")})
        for turn, speaker in turns.select("recording", "speaker").iter_rows()
        if turn in there
    ]
    labelled = set(turns["recording"])
    print(f"{len(rows)} turns", file=sys.stderr)
    report("have labels and no wav", labelled - there)
    report("have a wav and no labels, and are left out", there - labelled)
    if words is not None:
        report("have no words in their transcript, and are recognised", (t for t in labelled & there if not words.get(t)))
    return rows


def report(what: str, names: Iterable[str]) -> None:
    """Say on stderr how many `names` are so, and the first few."""
    if found := sorted(names):
        print(f"{len(found)} {what}: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}", file=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="the folder of the release, which holds Session1 to Session5")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--transcripts", action="store_true", help="the words are those of the release, not recognised")
    arguments = parser.parse_args()
    try:
        turns = read_labels(arguments.corpus).frame
        rows = manifest(arguments.corpus, turns, transcriptions(arguments.corpus) if arguments.transcripts else None)
    except (OSError, MsfserError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if not rows:
        sys.exit(f"{parser.prog}: {arguments.corpus}: no turn has a wav in Session?/sentences/wav")
    with (arguments.out / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    # Scripted dialogs say the same words in every session.
    improvised = pl.col("recording").str.contains("_impro", literal=True)
    styles = turns.with_columns(split=pl.when(improvised).then(pl.lit("improvised")).otherwise(pl.lit("scripted")))
    styles.select("recording", *DIMENSIONS, "speaker", "gender", "split").write_csv(arguments.out / "styles.csv")


if __name__ == "__main__":
    main()

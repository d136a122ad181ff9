"""Makes a manifest of an IEMOCAP release, with one utterance per turn, and labels with the splits improvised and scripted.

    python recipes/iemocap/manifest.py CORPUS OUT [--transcripts]

The script reads the evaluations, the names of the wavs and, with --transcripts, the transcriptions of CORPUS/Session1 to
Session5. It writes OUT/manifest.csv and OUT/styles.csv. It counts missing files on stderr, and continues without them.
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
from msfser_cli.evaluation.labels import read_labels
from msfser_cli.schemas import DIMENSIONS

_LINE = re.compile(r"(Ses\w+) \[[^\]]*\]:\s*(.*)")
_NOT_WORDS = re.compile(r"\[[A-Z]+\]")
"""Marks such as [LAUGHTER] and [BREATHING]."""


def wav(turn: str) -> str:
    """The path of the wav of `turn` below the corpus folder."""
    return f"Session{int(turn[3:5])}/sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"


def transcriptions(corpus: Path) -> dict[str, str]:
    """The words of each turn, by its name, without marks for sounds. May be empty."""
    words = {}
    for path in sorted(corpus.glob("Session[1-5]/dialog/transcriptions/Ses*.txt")):
        # splitlines would also split at the byte 85, which Windows writes for an ellipsis.
        for line in path.read_text("latin-1").split("\n"):
            if match := _LINE.match(line):
                words[match[1]] = " ".join(_NOT_WORDS.sub(" ", match[2]).split())
    return words


def manifest(corpus: Path, turns: pl.DataFrame, words: dict[str, str] | None) -> list[dict[str, str]]:
    """A row for each turn that has a wav: `path` below the corpus folder, `start`, `speaker`, `language`, and perhaps `text`.

    turns: the frame of the labels. words: the words of each turn; None: no column `text`. `start` is 0, so that each wav is one
    utterance, even without speech. If `text` is empty, msfser recognises the words.
    """
    wavs = {path.stem for path in corpus.glob("Session[1-5]/sentences/wav/*/Ses*.wav")}
    rows = [
        {"path": wav(turn), "start": "0", "speaker": speaker, "language": "en"}
        | ({} if words is None else {"text": words.get(turn, "")})
        for turn, speaker in turns.select("recording", "speaker").iter_rows()
        if turn in wavs
    ]
    labelled = set(turns["recording"])
    print(f"{len(rows)} turns", file=sys.stderr)
    report("have labels but no wav", labelled - wavs)
    report("have a wav but no labels, so they are left out", wavs - labelled)
    if words is not None:
        report("have no words in their transcript, so msfser recognises them", (t for t in labelled & wavs if not words.get(t)))
    return rows


def report(what: str, names: Iterable[str]) -> None:
    """Print the number of `names` and the first three on stderr. Print nothing if there are none."""
    if ordered := sorted(names):
        print(f"{len(ordered)} {what}: {', '.join(ordered[:3])}{' ...' if len(ordered) > 3 else ''}", file=sys.stderr)


def main() -> None:
    """Write the manifest and the labels."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder of the release, with Session1 to Session5")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--transcripts", action="store_true", help="use the release's words instead of recognising them")
    arguments = parser.parse_args()
    try:
        turns = read_labels(arguments.corpus).frame
        rows = manifest(arguments.corpus, turns, transcriptions(arguments.corpus) if arguments.transcripts else None)
    except (OSError, MsfserError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if not rows:
        sys.exit(f"{parser.prog}: {arguments.corpus}: no turn has a wav in Session?/sentences/wav; check the folder")
    with (arguments.out / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    # Scripted dialogs have the same words in every session, so they are tested separately.
    improvised = pl.col("recording").str.contains("_impro", literal=True)
    styles = turns.with_columns(split=pl.when(improvised).then(pl.lit("improvised")).otherwise(pl.lit("scripted")))
    styles.select("recording", *DIMENSIONS, "speaker", "gender", "split").write_csv(arguments.out / "styles.csv")


if __name__ == "__main__":
    main()

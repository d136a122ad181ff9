"""The manifest of an MSP-Podcast release: every turn that has labels and every turn of Test3, each wav one utterance.

    python recipes/msp_podcast/manifest.py CORPUS [--transcripts] > manifest.csv

Reads CORPUS/Labels/labels_consensus.csv, the names in CORPUS/Audios and, with --transcripts, CORPUS/Transcripts.
What is missing is counted on stderr, and leaves the rest as it is.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from msfser_cli.errors import MsfserError
from msfser_cli.stages.labels import read_labels

TEST3 = "MSP-PODCAST_test3_"
"""How the names of Test3 begin, whose labels are not released."""


def files(folder: Path, suffix: str) -> set[str]:
    """The names in `folder` that end in `suffix`. One look at the folder: a release holds a quarter of a million files."""
    return {path.name for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")}


def manifest(corpus: Path, transcripts: bool) -> list[dict[str, str]]:
    """A row a turn, by name: `path` below CORPUS/Audios, `start` (0: the wav is one utterance, even where nobody speaks),
    `speaker` (empty where unknown), `language`, and `text` with `transcripts` (empty where there is none: it is recognised).

    OSError, LabelError: the corpus is not laid out as a release.
    """
    labels = read_labels(corpus / "Labels" / "labels_consensus.csv").frame
    speakers = dict(zip(labels["recording"], labels["speaker"], strict=True))
    audios = files(corpus / "Audios", ".wav")
    texts = files(corpus / "Transcripts", ".txt") if transcripts else set()

    rows, untranscribed = [], []
    test3 = {name for name in audios if name.startswith(TEST3)}
    for name in sorted(audios & speakers.keys() | test3):
        row = {"path": name, "start": "0", "speaker": speakers.get(name) or "", "language": "en"}
        if transcripts:
            text = Path(name).with_suffix(".txt").name
            words = (corpus / "Transcripts" / text).read_text("utf-8", "replace") if text in texts else ""
            row["text"] = " ".join(words.split())
            untranscribed += [] if row["text"] else [name]
        rows.append(row)

    print(f"{len(rows)} turns, {len(test3)} of them in Test3", file=sys.stderr)
    report("have labels and no wav", speakers.keys() - audios)
    report("have a wav and no labels, and are left out", audios - speakers.keys() - test3)
    report("have no transcript, and are recognised", untranscribed)
    return rows


def report(what: str, names: Iterable[str]) -> None:
    """Say on stderr how many `names` are so, and the first few."""
    if found := sorted(names):
        print(f"{len(found)} {what}: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}", file=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="the folder of the release, which holds Audios and Labels")
    parser.add_argument("--transcripts", action="store_true", help="the words are those of the release, not recognised")
    arguments = parser.parse_args()
    try:
        rows = manifest(arguments.corpus, arguments.transcripts)
    except (OSError, MsfserError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if not rows:
        sys.exit(f"{parser.prog}: {arguments.corpus / 'Audios'}: none of its wavs has labels")
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()

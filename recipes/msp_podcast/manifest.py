"""The manifests of an MSP-Podcast release: of the turns that have labels, and of those of Test3; each wav is one utterance.

    python recipes/msp_podcast/manifest.py CORPUS OUT [--transcripts]

Reads CORPUS/Labels/labels_consensus.csv, the names in CORPUS/Audios and, with --transcripts, CORPUS/Transcripts. Writes
OUT/labelled.csv and, where the copy has Test3, OUT/test3.csv. What is missing is counted on stderr, and leaves the rest as it is.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msfser_cli.errors import MsfserError
from msfser_cli.stages.labels import read_labels

Row = dict[str, str]

TEST3 = "MSP-PODCAST_test3_"
"""How the names of Test3 begin, whose labels are not released."""


def files(folder: Path, suffix: str) -> set[str]:
    """The names in `folder` that end in `suffix`. One look at the folder: a release holds a quarter of a million files."""
    return {path.name for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")}


def manifest(names: Iterable[str], speakers: Mapping[str, str | None], texts: Callable[[str], str] | None) -> list[Row]:
    """A row for each wav, in the order of their `names`: `path` below CORPUS/Audios, `start` (0: the wav is one utterance, even
    where nobody speaks), `speaker` (empty where unknown), `language`, and `text` with `texts` (empty: it is recognised).
    """
    rows = []
    for name in sorted(names):
        row = {"path": name, "start": "0", "speaker": speakers.get(name) or "", "language": "en"}
        if texts is not None:
            row["text"] = texts(name)
        rows.append(row)
    return rows


def transcripts(folder: Path) -> Callable[[str], str]:
    """What gives the words of a wav by its name, empty where it has no transcript. OSError: there is no such folder."""
    there = files(folder, ".txt")

    def text(name: str) -> str:
        path = folder / Path(name).with_suffix(".txt").name
        return " ".join(path.read_text("utf-8", "replace").split()) if path.name in there else ""

    return text


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows`, of which there is at least one."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report(what: str, names: Iterable[str]) -> None:
    """Say on stderr how many `names` are so, and the first few."""
    if found := sorted(names):
        print(f"{len(found)} {what}: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}", file=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="the folder of the release, which holds Audios and Labels")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--transcripts", action="store_true", help="the words are those of the release, not recognised")
    arguments = parser.parse_args()
    corpus: Path = arguments.corpus
    try:
        labels = read_labels(corpus / "Labels" / "labels_consensus.csv").frame
        audios = files(corpus / "Audios", ".wav")
        texts = transcripts(corpus / "Transcripts") if arguments.transcripts else None
    except (OSError, MsfserError) as error:
        sys.exit(f"{parser.prog}: {error}")
    speakers = dict(zip(labels["recording"], labels["speaker"], strict=True))
    hidden = {name for name in audios if name.startswith(TEST3)}
    labelled, test3 = manifest(audios & speakers.keys(), speakers, texts), manifest(hidden, {}, texts)
    if not labelled:
        sys.exit(f"{parser.prog}: {corpus / 'Audios'}: none of its wavs has labels")
    write(arguments.out / "labelled.csv", labelled)
    if test3:
        write(arguments.out / "test3.csv", test3)

    print(f"{len(labelled)} turns with labels, {len(test3)} of Test3", file=sys.stderr)
    report("have labels and no wav", speakers.keys() - audios)
    report("have a wav and no labels, and are left out", audios - speakers.keys() - hidden)
    if texts is not None:
        report("have no transcript, and are recognised", (row["path"] for row in [*labelled, *test3] if not row["text"]))


if __name__ == "__main__":
    main()

"""Makes manifests of an MSP-Podcast release: of the labelled turns, and of those of Test3. Each wav is one utterance.

    python recipes/msp_podcast/manifest.py CORPUS OUT [--transcripts]

The script reads CORPUS/Labels/labels_consensus.csv, the names in CORPUS/Audios and, with --transcripts, CORPUS/Transcripts. It
writes OUT/labelled.csv and, if the copy has Test3, OUT/test3.csv. It counts missing files on stderr, and continues without them.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msfser_cli.errors import MsfserError
from msfser_cli.evaluation.labels import read_labels

Row = dict[str, str]

TEST3 = "MSP-PODCAST_test3_"
"""The beginning of file names of Test3. Its labels are not published."""


def files(folder: Path, suffix: str) -> set[str]:
    """The names in `folder` with `suffix`. The folder is listed once, because a release has a quarter of a million files."""
    return {path.name for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")}


def manifest(names: Iterable[str], speakers: Mapping[str, str | None], texts: Callable[[str], str] | None) -> list[Row]:
    """A row for each wav, sorted by name: `path` below CORPUS/Audios, `start`, `speaker`, `language`, and perhaps `text`.

    speakers: by name; None: unknown, an empty field. texts: gives the words by name; None: no column `text`. `start` is 0, so
    that each wav is one utterance, even without speech. If `text` is empty, msfser recognises the words.
    """
    rows = []
    for name in sorted(names):
        row = {"path": name, "start": "0", "speaker": speakers.get(name) or "", "language": "en"}
        if texts is not None:
            row["text"] = texts(name)
        rows.append(row)
    return rows


def transcripts(folder: Path) -> Callable[[str], str]:
    """A function from the name of a wav to its words, empty without a transcript. OSError if `folder` does not exist."""
    existing = files(folder, ".txt")

    def text(name: str) -> str:
        path = folder / Path(name).with_suffix(".txt").name
        return " ".join(path.read_text("utf-8", "replace").split()) if path.name in existing else ""

    return text


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows` (at least one) to a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report(what: str, names: Iterable[str]) -> None:
    """Print the number of `names` and the first three on stderr. Print nothing if there are none."""
    if ordered := sorted(names):
        print(f"{len(ordered)} {what}: {', '.join(ordered[:3])}{' ...' if len(ordered) > 3 else ''}", file=sys.stderr)


def main() -> None:
    """Write the manifests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder of the release, with Audios and Labels")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--transcripts", action="store_true", help="use the release's words instead of recognising them")
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
        sys.exit(f"{parser.prog}: {corpus / 'Audios'}: no wav has labels; check the folder")
    write(arguments.out / "labelled.csv", labelled)
    if test3:
        write(arguments.out / "test3.csv", test3)

    print(f"{len(labelled)} turns with labels, {len(test3)} of Test3", file=sys.stderr)
    report("have labels but no wav", speakers.keys() - audios)
    report("have a wav but no labels, so they are left out", audios - speakers.keys() - hidden)
    if texts is not None:
        untranscribed = (row["path"] for row in [*labelled, *test3] if not row["text"])
        report("have no transcript, so msfser recognises their words", untranscribed)


if __name__ == "__main__":
    main()

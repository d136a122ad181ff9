"""Reads IEMOCAP's evaluations, such as `Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`.

The file of a dialog has a line for each turn: `[6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]`.
The numbers in the last field are the mean valence, activation and dominance, in this order, on a scale of 1 to 5. A few means
reach 5.5. The ratings of single raters, on the lines that follow, are not read. The text is Latin-1. The name of a turn is the
name of its wave file.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.labels.table import IEMOCAP_SCALE, Labels, label_frame
from msfser_cli.schemas import DIMENSIONS

ORDER = ("valence", "arousal", "dominance")
"""The order of the numbers of a turn. The heading of the files calls them V, A and D."""

PLACES = ("*.txt", "EmoEvaluation/*.txt", "dialog/EmoEvaluation/*.txt", "Session[1-5]/dialog/EmoEvaluation/*.txt",
          "*/Session[1-5]/dialog/EmoEvaluation/*.txt")
"""The dialogs in the named folder, which may be EmoEvaluation, a session, the release, or the folder above it."""

_DIALOG = re.compile(r"Ses0\d[FM]_\w+\.txt")
_HEADING = re.compile(r"%\s*\[START_TIME\s*-\s*END_TIME\]\s*TURN_NAME\s*EMOTION\s*\[(.*)\]", re.IGNORECASE)
_TURN = re.compile(r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(Ses(\d\d)[FM]_\w*_([FM])\w{3})\s+\S+\s+\[([^\]]*)\]")


def is_dialog(line: str) -> bool:
    """Whether `line` is the first line of an IEMOCAP dialog."""
    return bool(_HEADING.match(line) or _TURN.match(line))


def read_folder(folder: Path) -> Labels:
    """The turns of all dialogs below `folder` (see `PLACES`), in the order of their names."""
    for place in PLACES:
        # macOS writes a ._ file beside each file.
        dialogs = sorted(p for p in folder.glob(place) if _DIALOG.fullmatch(p.name))
        if dialogs:
            return read_dialogs(folder, dialogs)
    raise LabelError(folder, "the folder has no IEMOCAP labels (dialog/EmoEvaluation/Ses*.txt)",
                     "name the IEMOCAP release, one of its sessions, or a label file")


def read_dialogs(path: Path, dialogs: list[Path]) -> Labels:
    """The turns in the files `dialogs`. `path` is the input that the user named. The column `row` numbers the turns."""
    turns = [turn for dialog in dialogs for turn in _turns(dialog)]
    if not turns:
        raise LabelError(path, "no turn has [valence, activation, dominance]", "name another label file")
    names, sessions, letters, values = zip(*turns, strict=True)
    frame = label_frame(path, {
        "row": pl.Series(range(1, len(turns) + 1)),
        "recording": pl.Series(names),
        "speaker": pl.Series([f"Ses{session}{letter}" for session, letter in zip(sessions, letters, strict=True)]),
        "gender": pl.Series(letters),
        "split": pl.Series([f"Session{int(session)}" for session in sessions]),
        **{d: pl.Series([rating[ORDER.index(d)] for rating in values], dtype=pl.Float64) for d in DIMENSIONS},
    })
    places = {d: f"{place} of [V, A, D]" for d, place in zip(ORDER, ("1st", "2nd", "3rd"), strict=True)}
    columns = {"recording": "turn", **places, "speaker": "session and letter of the turn", "gender": "letter of the turn",
               "split": "session"}
    return Labels(path, f"IEMOCAP EmoEvaluation, {len(dialogs)} dialogs", columns, IEMOCAP_SCALE, frame)


def _turns(dialog: Path) -> list[tuple[str, str, str, tuple[float, ...]]]:
    """Name, session, speaker's letter and ratings of each turn."""
    try:
        # splitlines would also split at byte 0x85, which is an ellipsis in Windows files.
        lines = dialog.read_text(encoding="latin-1").split("\n")
    except OSError as e:
        raise LabelError(dialog, f"cannot be read ({e.strerror})") from e
    turns = []
    for number, line in enumerate(lines, start=1):
        if heading := _HEADING.match(line):
            if re.sub(r"\s", "", heading[1]).upper() != "V,A,D":
                raise LabelError(dialog, f"line {number} gives the order [{heading[1]}]; msfser reads only [V, A, D]")
        elif line.startswith("["):
            turn = _TURN.match(line)
            if turn is None:
                raise LabelError(dialog, f"line {number} is not a turn in IEMOCAP's format", "restore the original file")
            try:
                ratings = tuple(float(number) for number in turn[4].split(","))
            except ValueError:
                ratings = ()
            if len(ratings) != len(ORDER):
                raise LabelError(dialog, f"line {number} has [{turn[4]}], not three numbers", "restore the original file")
            turns.append((turn[1], turn[2], turn[3], ratings))
    return turns

"""IEMOCAP's evaluations: `Session1/dialog/EmoEvaluation/Ses01F_impro01.txt` and its like.

A dialog's file has a line for each turn, `[6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]`, the
averages of valence, activation and dominance in this order on 1 to 5 (a few averages reach 5.5); then each rater's own, which are
not read. Text is Latin-1. The turn's name is its wave file's.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.stages.labels.table import IEMOCAP_SCALE, Labels, label_frame

ORDER = ("valence", "arousal", "dominance")
"""The order of a turn's numbers; the files' own heading calls them V, A and D."""

PLACES = ("*.txt", "EmoEvaluation/*.txt", "dialog/EmoEvaluation/*.txt", "Session[1-5]/dialog/EmoEvaluation/*.txt",
          "*/Session[1-5]/dialog/EmoEvaluation/*.txt")
"""Where the dialogs lie in the folder that was named: EmoEvaluation itself, a session, the release, or what holds it."""

_DIALOG = re.compile(r"Ses0\d[FM]_\w+\.txt")
_HEADING = re.compile(r"%\s*\[START_TIME\s*-\s*END_TIME\]\s*TURN_NAME\s*EMOTION\s*\[(.*)\]", re.IGNORECASE)
_TURN = re.compile(r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(Ses(\d\d)[FM]_\w*_([FM])\w{3})\s+\S+\s+\[([^\]]*)\]")


def is_dialog(line: str) -> bool:
    """Whether a file that starts with `line` is an IEMOCAP dialog's."""
    return bool(_HEADING.match(line) or _TURN.match(line))


def read_folder(folder: Path) -> Labels:
    """The turns of all dialogs below `folder` (see `PLACES`), in the order of their names."""
    for place in PLACES:
        # macOS leaves a ._ file beside each.
        dialogs = sorted(p for p in folder.glob(place) if _DIALOG.fullmatch(p.name))
        if dialogs:
            return read_dialogs(folder, dialogs)
    raise LabelError(folder, "is a folder without IEMOCAP's dialog/EmoEvaluation/Ses*.txt",
                     "name the release, one of its sessions, or a label file")


def read_dialogs(path: Path, dialogs: list[Path]) -> Labels:
    """The turns in the files `dialogs`; `path` is what the user named. `row` counts turns."""
    turns = [turn for dialog in dialogs for turn in _turns(dialog)]
    if not turns:
        raise LabelError(path, "holds no turns with [valence, activation, dominance]")
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
        # Not splitlines: it also splits at the byte 85, which Windows writes for an ellipsis.
        lines = dialog.read_text(encoding="latin-1").split("\n")
    except OSError as e:
        raise LabelError(dialog, f"cannot be read ({e.strerror})") from e
    found = []
    for number, line in enumerate(lines, start=1):
        if heading := _HEADING.match(line):
            if re.sub(r"\s", "", heading[1]).upper() != "V,A,D":
                raise LabelError(dialog, f"line {number} gives the order [{heading[1]}], not [V, A, D]")
        elif line.startswith("["):
            turn = _TURN.match(line)
            if turn is None:
                raise LabelError(dialog, f"line {number} is not a turn of IEMOCAP")
            try:
                ratings = tuple(float(number) for number in turn[4].split(","))
            except ValueError:
                ratings = ()
            if len(ratings) != len(ORDER):
                raise LabelError(dialog, f"line {number} has [{turn[4]}], not three numbers")
            found.append((turn[1], turn[2], turn[3], ratings))
    return found

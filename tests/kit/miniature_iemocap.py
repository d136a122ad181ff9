"""A miniature of IEMOCAP: the files of its full release, in its folders and formats, awkward ones included. All is synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit import speech
from kit.speech import Turn

SCRIPT = ((-0.8, "You never listen to me."), (0.5, "I have wanted this for years."))
"""What both actors of each session say in the scripted dialogs, with the valence of the words."""
VOICES = {1: ("f1", "m1"), 2: ("f2", "m2"), 3: ("f3", "m3"), 4: ("f4", "m4"), 5: ("f5", "m5")}

NOT_THERE = "Ses02F_impro01_M001"
"""Has labels and no wav."""
NO_LABEL = "Ses03M_impro02_FXX0"
"""A breath with a transcript, as the release has a few, and neither labels nor wav."""
ABOVE_FIVE = "Ses04F_script01_1_M001"
"""Its average dominance is 5.5000."""
ONLY_LAUGHTER = "Ses05F_impro01_F002"
"""Its transcript is [LAUGHTER]."""


@dataclass(frozen=True)
class Labelled:
    """One turn of a dialog."""

    name: str
    turn: Turn

    @property
    def dialog(self) -> str:
        """Its dialog: the name without the turn."""
        return self.name.rpartition("_")[0]

    @property
    def path(self) -> str:
        """Its wav below the corpus."""
        return f"Session{self.name[4]}/sentences/wav/{self.dialog}/{self.name}.wav"

    @property
    def means(self) -> tuple[float, float, float]:
        """Valence, activation, dominance: the order of the release."""
        v, a, d = np.mean(self.turn.ratings(1, 5, 2), axis=0)
        return float(v), float(a), 5.5 if self.name == ABOVE_FIVE else float(d)


def labelled() -> list[Labelled]:
    """The turns with labels, session by session, as they follow one another in the dialogs."""
    found = []
    for session, voices in VOICES.items():
        for dialog, turns in ((f"Ses0{session}F_impro01", 3), (f"Ses0{session}M_impro02", 1)):
            spoken = {letter: speech.turns(voice, turns, dialog + voice) for letter, voice in zip("FM", voices, strict=True)}
            found += [Labelled(f"{dialog}_{letter}{i:03d}", spoken[letter][i]) for i in range(turns) for letter in "FM"]
        for i, (valence, text) in enumerate(SCRIPT):
            for letter, voice, arousal in zip("FM", voices, (-0.9 + 0.4 * i, 0.9 - 0.4 * i), strict=True):
                dialog = "Ses05M_script01_1b" if session == 5 else f"Ses0{session}F_script01_1"
                found.append(Labelled(f"{dialog}_{letter}{i:03d}", Turn(text, voice, valence, arousal)))
    return found


def build(folder: Path) -> None:
    """Lay the corpus out in `folder`."""
    (folder / "Documentation").mkdir(parents=True)
    (folder / "README.txt").write_text("A miniature; all of it is synthetic.\n")
    rows = labelled()
    for dialog in sorted({row.dialog for row in rows}):
        _dialog(folder / f"Session{dialog[4]}", dialog, [row for row in rows if row.dialog == dialog])


def _dialog(session: Path, dialog: str, rows: list[Labelled]) -> None:
    wavs = session / "sentences" / "wav" / dialog
    evaluation, transcripts, whole = (session / "dialog" / name for name in ("EmoEvaluation", "transcriptions", "wav"))
    for place in (transcripts, whole, *(evaluation / name for name in ("Attribute", "Categorical", "Self-evaluation"))):
        place.mkdir(parents=True, exist_ok=True)

    labels = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    lines, attributes, categories, start, mixed = "", "", "", 0.5, []
    for i, row in enumerate(rows):
        samples = row.turn.samples(16_000)
        mixed += [np.zeros(8_000), samples]
        end = start + len(samples) / 16_000
        if row.name != NOT_THERE:
            speech.write(wavs / f"{row.name}.wav", samples, 16_000)
        labels += _evaluation(row, "xxx" if i % 3 == 2 else "neu", start, end)
        text = "[LAUGHTER]" if row.name == ONLY_LAUGHTER else row.turn.text
        text = text.replace(" ", "\x85", 1) if i == 1 else text  # a byte that is no end of a line
        lines += f"{row.name} [{start:08.4f}-{end:08.4f}]: {text}\n"
        val, act, dom = row.turn.ratings(1, 5, 2)[0]
        attributes += f"{row.name} :act  {act}; :val  {val}; :dom  {dom}; ()\n"
        categories += f"{row.name} :Neutral state; ()\n"
        start = end + 0.5
    if NO_LABEL.startswith(dialog):
        lines += f"{NO_LABEL} [{start:08.4f}-{start + 0.4:08.4f}]: [BREATHING]\n"
    lines += "M: All right.\n"

    # A rater wrote with accents, and the encoding is Latin-1.
    (evaluation / f"{dialog}.txt").write_bytes(labels.replace("()\n", "(un peu fâché)\n", 1).encode("latin-1"))
    (evaluation / "Attribute" / f"{dialog}_e3_atr.txt").write_text(attributes)
    (evaluation / "Categorical" / f"{dialog}_e2_cat.txt").write_text(categories)
    (evaluation / "Self-evaluation" / f"{dialog}_f1.txt").write_text(categories)
    (transcripts / f"{dialog}.txt").write_bytes(lines.encode("latin-1"))
    speech.write(whole / f"{dialog}.wav", np.stack([np.concatenate(mixed)] * 2, axis=1), 16_000)
    for place, name in ((evaluation, f"{dialog}.txt"), (transcripts, f"{dialog}.txt"), (wavs, f"{rows[0].name}.wav")):
        (place / f"._{name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X\xe9\xff")


def _evaluation(row: Labelled, emotion: str, start: float, end: float) -> str:
    v, a, d = row.means
    lines = [f"[{start:.4f} - {end:.4f}]\t{row.name}\t{emotion}\t[{v:.4f}, {a:.4f}, {d:.4f}]"]
    lines += [f"C-{rater}:\tNeutral;\t()" for rater in ("E2", "E3", "E4")] + ["C-F1:\tNeutral; Anger;\t(curious)"]
    ratings = zip(("E3", "E4"), row.turn.ratings(1, 5, 2), strict=True)
    lines += [f"A-{rater}:\tval {val}; act {act}; dom  {dom};\t()" for rater, (val, act, dom) in ratings]
    return "\n".join([*lines, "A-F1:\tval 3; act 2; dom  1;\t()", "", ""])

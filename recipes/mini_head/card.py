"""The model card beside the checkpoint: training data, results, and what the head is not good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import ALL, FACTOR, Measured

from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics.intervals import Intervals

NAME, PICTURE = "MODEL_CARD.md", "reliability.png"


@dataclass
class Results:
    """All that the card says of the head.

    measured: test -> its results. changes: test -> what is left out -> the change of the CCC. gates: test -> the mean gates of
    LES, GS and ES. references: kind of reference -> test -> CCC.
    """

    measured: dict[str, Measured] = field(default_factory=dict)
    changes: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    gates: dict[str, list[float]] = field(default_factory=dict)
    references: dict[str, dict[str, list[float]]] = field(default_factory=dict)


_TEXT = """\
# The `mini` head

This is an MSF-SER head for the vectors of `{acoustic}` (voice) and `{text}` (texts). It has {parameters} parameters.
Scores range from {low:g} to {high:g}; {middle:g} is neutral. `recipes/mini_head/train.py` makes the head, and the tables below,
from the raw data.

## Training data
- **CREMA-D** (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244; Open Database License 1.0, contents under the Database Contents
  License 1.0): acted English, {crema} clips of 73 actors. The labels come from listeners: each emotion counts as often as it was
  named by those who heard the voice, alone or with the face. The labels are then moved and scaled to the mean and spread of the
  votes about the voice alone. The clips of the other 18 actors are for testing, with the votes about the voice alone. The copy
  that was used is Opus at 56 kbit/s; the release is lossless.
- **EmoDB** (Berlin Database of Emotional Speech; CC0-1.0): acted German, 535 clips of 10 actors. The labels are not ratings. In
  the copy that was used, every clip is cut, or padded with zeros, to 2.0 s. So the results on EmoDB below are not comparable with
  published ones.
- **EmoBank** (Buechel and Hahn 2017; CC-BY-SA 4.0, https://github.com/JULIELab/EmoBank): the training split. Its mean ratings,
  from 1 to 5, are rescaled to the range from 0 to 1. The sentences are used as text. Some are also read aloud by espeak-ng and
  flite.

An emotion stands for its mean pleasure, arousal and dominance in Russell and Mehrabian (1977), rescaled to the range from 0 to 1.
The clips of these copies are used whole, cut to their speech, and in altered sessions: other microphones, rooms, telephones,
codecs and noise, and speakers of other pitch and size, made by a vocoder.

The head learned from pairs of a voice and a text. No person rated these pairs: the label of a pair is the voice's label plus the
sentence's.

The checkpoint is a part of msfser, which is under the MIT licence. The sources keep the licences above, and nothing of them is in
the package. msfser does not judge whether the terms of a source reach weights that learned from it.

## Results
CCC with 95 % intervals, from 10,000 resamples of the speakers (for EmoBank, of the sentences). Every voice is of a speaker whom
the head had not heard. msfser's own commands made the words, descriptions and vectors. Clips are cut to their speech, as
`predict` does, or whole (`--unit file`). "Altered": in other rooms, by other microphones, telephones, codecs and voices.
Clips in which msfser hears no speech are left out. Of RAVDESS, these are 7 of 1,440, strong ones of actor 06: screams. Of the
1,476 clips of CREMA-D's held-out actors, they are 7.

| test data | n | {heading} |
|---|---|{rule}|
{results}

A model that always predicts the mean of the labels has a CCC of 0. "With reference" is `--reference speaker`: a voice is scored
relative to all clips of its speaker, which here are of all emotions. In CREMA-D, RAVDESS and EmoDB, actors speak fixed, neutral
sentences, so the words say nothing. When synthetic voices read EmoBank's sentences, they express no emotion, so only the words
count. "EmoDB, never trained on" is of a head that learned from the other data only. The labels of RAVDESS and EmoDB are not
ratings, but stand for the emotion that the actor was asked for.

All figures are of one seed. In trials, another seed moved the valence on EmoDB, never trained on, by up to .06, and the other
figures on EmoDB and CREMA-D by .01 to .04.

![Mean label and the middle 80 % of labels, against the mean score, for eighths of each corpus]({picture})

### With a reference of so many utterances
CCC of valence, arousal and dominance, for clips cut to their speech. "One mood": each voice is compared only with the same
speaker's clips of the same emotion, as of someone who is angry all the time. CREMA-D has none of that, because its labels are
means of votes and not emotions. The rows 1 and 2 do not occur in `predict`: there, a reference has at least three utterances.

| utterances | {sets} |
|---|{sets_rule}|
{references}

### With a text left out
The change of the CCC without reference, and the mean gate of each text. Single scores do change with neutral words: on RAVDESS by
.03 on average, and by .2 at most.

| test data | left out | {heading} | gates of LES, GS, ES |
|---|---|{rule}|---|
{changes}

### Prediction intervals
For valence, arousal and dominance, the 90 % intervals reach {below} below the score and {above} above it. They come
from the errors of two other heads, on corpora that these never saw: one without CREMA-D, tested on its 73 actors, and one
without EmoDB, tested on that. They are made wider by a factor of {factor:.2f}, because two corpora say little of a third. They
contain this share of the labels:

| test data | {heading} |
|---|{rule}|
{coverage}

For your own speech, calibrate them on ratings of it with `msfser predict --calibrate`.

The settings were chosen by these held-out actors of CREMA-D, by transfer from CREMA-D to EmoDB and back, and on EmoBank's
development split. So the results on CREMA-D and EmoDB are slightly too good. CREMA-D's held-out actors also say the same twelve
sentences as the others. RAVDESS was used for reporting only: six times with other heads, {looks} with this one. Then 24 of its
clips were used again, for a figure in `recipes/tables`.

## Not good for
- Decisions about a person. The scores are a first look at a corpus. Check them against your own labels.
- Screamed speech. msfser may hear no speech in it.
- Spontaneous speech. The head has learned from actors and synthetic voices only, and no test above has spontaneous speech.
- Valence from a single utterance. From the voice alone, arousal transfers from one corpus to another, and valence less.
- Meaning in other languages than English. The sentence encoder is English, so words in other languages have no vector. The
  scores then depend on the voice and on the description of the delivery.
- Comparisons between recordings made in different ways without a reference. Microphone, room and codec change the scores.
- Comparisons between people with a reference. It takes off how a person usually sounds.
"""


LOOKS = "twice"
"""How often RAVDESS was used with the present recipe."""


def write(folder: Path, results: Results, head: MsfSer, crema: int, intervals: Intervals) -> None:
    """Write MODEL_CARD.md. crema: the number of CREMA-D's clips that the head learned from."""
    config, parameters = head.config, sum(p.numel() for p in head.parameters())
    rows, coverage, changes = [], [], []
    for name, m in results.measured.items():
        cells = (f"{ccc:.2f} [{low:.2f}, {high:.2f}]" for ccc, low, high in (m.ccc[d] for d in DIMENSIONS))
        rows.append(f"| {name} | {m.n} | {' | '.join(cells)} |")
        if m.covered:
            coverage.append(f"| {name} | {_cells([m.covered[d] for d in DIMENSIONS])} |")
    for name, of_test in results.changes.items():
        for left_out, values in of_test.items():
            if left_out is ALL:
                gates = " ".join(f"{gate:.2f}" for gate in results.gates[name])
                changes.append(f"| {name} | nothing: CCC | {_cells(values)} | {gates} |")
            else:
                changes.append(f"| | {left_out} | {_cells(values, '+')} | |")
    sets = list(next(iter(results.references.values())))
    references = [
        f"| {kind} | {' | '.join(' '.join(f'{c:.2f}' for c in of[name]) if name in of else '' for name in sets)} |"
        for kind, of in results.references.items()
    ]
    text = _TEXT.format(
        acoustic=config.acoustic_encoder, text=config.text_encoder, low=config.low, high=config.high, looks=LOOKS,
        middle=(config.low + config.high) / 2, parameters=f"{parameters:,}", crema=f"{crema:,}", picture=PICTURE,
        heading=" | ".join(DIMENSIONS), rule="---|" * 2 + "---", results="\n".join(rows), coverage="\n".join(coverage),
        changes="\n".join(changes), references="\n".join(references), sets=" | ".join(sets),
        sets_rule="---|" * (len(sets) - 1) + "---",
        below=_reach(intervals.below), above=_reach(intervals.above), factor=FACTOR,
    )  # fmt: skip
    (folder / NAME).write_text(text, encoding="utf-8")


def _cells(values: Sequence[float], sign: str = "") -> str:
    return " | ".join(f"{value:{sign}.2f}" for value in values)


def _reach(values: Sequence[float | None]) -> str:
    return ", ".join(f"{value:.2f}" for value in values if value is not None)

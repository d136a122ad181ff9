"""The model card beside the checkpoint: training data, results, and what the head is not good for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.schemas import DIMENSIONS

NAME = "MODEL_CARD.md"

_ROWS = {
    "EmoDB, whole": "EmoDB, acted German, two speakers held out at a time; whole clips",
    "EmoDB, speech": "the same clips cut to their speech",
    "RAVDESS": "RAVDESS, acted English, never trained on; whole chain",
    "EmoBank, given": "EmoBank test sentences, text given, no voice",
    "EmoBank, spoken": "EmoBank test sentences spoken by synthetic voices held out from training; whole chain",
}


@dataclass
class Measured:
    """Results on `n` utterances, by dimension: CCC with its 95 % interval (ccc, low, high), and the share of labels in the
    prediction intervals (0..1).
    """

    n: int
    ccc: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)


_TEXT = """\
# The `mini` head

This is an MSF-SER head for the vectors of `{acoustic}` (voice) and `{text}` (texts). It has {parameters} parameters.
Scores range from {low:g} to {high:g}; {middle:g} is neutral. `recipes/mini_head/train.py` makes the head, and every number below,
from the raw data.

## Training data
- **EmoDB** (Berlin Database of Emotional Speech; CC0-1.0): 535 clips of 10 actors. They are used as recorded, cut to their
  speech, and in altered copies: other microphones, rooms and codecs, and speakers of other pitch and size, made by a vocoder.
  The labels are not ratings. Each emotion category stands for its mean pleasure, arousal and dominance in Russell and Mehrabian
  (1977), rescaled to the range from 0 to 1.
- **EmoBank** (Buechel and Hahn 2017; CC-BY-SA 4.0, https://github.com/JULIELab/EmoBank): the training split. Its mean ratings,
  from 1 to 5, are rescaled to the range from 0 to 1. The sentences are used as text. Some are also read aloud by espeak-ng and
  flite.

The head learned from pairs of a voice and a text. No person rated these pairs: the label of a pair is the voice's label plus the
sentence's.

## Results
CCC with 95 % intervals, from 10,000 resamples of the speakers (for EmoBank, of the sentences):

| test data | n | {heading} |
|---|---|{rule}|
{table}

A model that always predicts the mean of the labels has a CCC of 0. In RAVDESS and EmoDB, actors speak fixed, neutral sentences,
so the words play no part. When synthetic voices read EmoBank's sentences, they express no emotion, so only the words count.

The 90 % prediction intervals were calibrated on EmoDB's held-out speakers. They contain this share of the labels (for EmoDB, the
intervals of each speaker come from the other nine):

| test data | {heading} |
|---|{rule}|
{coverage}

The intervals are right for actors like those of EmoDB. For other speech they are too narrow or too wide. To correct them,
calibrate on ratings of your own speech with `msfser predict --calibrate`.

The settings were chosen on EmoDB (other speakers, the other gender with other sentences, noise, rooms, telephones, codecs) and on
EmoBank's development split. EmoDB's results are therefore slightly too good. Its held-out speakers also say the same ten
sentences as the others. RAVDESS was used for reporting only: four times with earlier heads, {looks} with this one.

## Not good for
- Decisions about a person. The scores are a first look at a corpus. Check them against your own labels.
- Spontaneous speech. The head has learned from actors and synthetic voices only, and no test above has spontaneous speech.
- Valence from the voice alone. Arousal transfers from one corpus to another; valence barely does.
- Meaning in other languages than English. The sentence encoder is English, so words in other languages have no vector. The
  scores then depend on the voice and on the description of the delivery.
- Comparisons between recordings made in different ways. Microphone, room and codec change the scores.
- Small differences in dominance. Acted and rated corpora define dominance differently.
"""


LOOKS = "once"
"""How often RAVDESS was used with the present recipe."""


def write(folder: Path, measured: dict[str, Measured], config: MsfSerConfig) -> None:
    """Write MODEL_CARD.md with the results in `measured`, whose keys are among `_ROWS`."""
    from msfser_cli.model.weights import load

    rows, coverage = [], []
    for name, what in _ROWS.items():
        if name not in measured:
            continue
        m = measured[name]
        cells = (f"{c:.2f} [{low:.2f}, {high:.2f}]" for c, low, high in (m.ccc[d] for d in DIMENSIONS))
        rows.append(f"| {what} | {m.n} | {' | '.join(cells)} |")
        if m.covered:
            coverage.append(f"| {what} | {' | '.join(f'{m.covered[d]:.2f}' for d in DIMENSIONS)} |")
    text = _TEXT.format(
        acoustic=config.acoustic_encoder, text=config.text_encoder, low=config.low, high=config.high, looks=LOOKS,
        middle=(config.low + config.high) / 2, parameters=f"{sum(p.numel() for p in load(folder).parameters()):,}",
        heading=" | ".join(DIMENSIONS), rule="---|" * 2 + "---", table="\n".join(rows), coverage="\n".join(coverage),
    )  # fmt: skip
    (folder / NAME).write_text(text, encoding="utf-8")

"""The model card beside the checkpoint: what it learned from, what was measured, what it is not good for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from msfser_cli.model.config import DIMENSIONS, MsfSerConfig

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
    """Of `n` utterances, per dimension: the CCC with its 95 % interval (ccc, low, high); the share of labels in the intervals."""

    n: int
    ccc: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)


_TEXT = """\
# The `mini` head

An MSF-SER head for the vectors of `{acoustic}` (voice) and `{text}` (texts): {parameters} parameters. Scores lie on
{low:g} .. {high:g}; {middle:g} is neutral. `recipes/mini_head/train.py` makes it, and every number below, from the raw data.

## Trained on
- **EmoDB** (Berlin Database of Emotional Speech; CC0-1.0): 535 clips of 10 actors, as spoken, cut to their speech, and in
  copies by other microphones, rooms and codecs and, through a vocoder, by speakers of other pitch and size. Its labels are not
  ratings: each emotion category stands for its mean pleasure, arousal and dominance in Russell and Mehrabian (1977), rescaled
  to 0 .. 1.
- **EmoBank** (Buechel and Hahn 2017; CC-BY-SA 4.0, https://github.com/JULIELab/EmoBank): the training split, mean ratings
  rescaled from 1 .. 5 to 0 .. 1; as text, and some of it spoken by espeak-ng and flite.

Nobody has rated the pairs of voice and text that it learned from: their labels are the voice's plus the sentence's.

## Measured
CCC and its 95 % interval, from 10,000 resamples of the speakers (EmoBank: of the sentences):

| on | n | {heading} |
|---|---|{rule}|
{table}

The mean of the labels scores 0. RAVDESS and EmoDB speak fixed, neutral sentences: what the words say plays no part there. On
EmoBank's sentences the voices act nothing: only the words count.

The scores' own 90 % intervals were calibrated on EmoDB's held-out speakers. The share of labels that they hold (for EmoDB, each
speaker by intervals from the other nine):

| on | {heading} |
|---|{rule}|
{coverage}

They hold for actors like EmoDB's; on other speech they are too narrow or too wide, and `msfser predict --calibrate` on a rated
sample of it sets them right.

Settings were chosen by EmoDB (other speakers, the other gender with other sentences, noise, rooms, telephones, codecs) and by
EmoBank's development split, so EmoDB's figures flatter a little; its held-out speakers also say the same ten sentences as the
others. RAVDESS was only reported: four looks at earlier heads, {looks} at this one.

## Not good for
- Deciding anything about a person. It is a first look at a corpus, to be checked against labels of your own.
- Spontaneous speech: it has only learned from actors and machines, and no test above is of spontaneous speech.
- Valence from the voice alone: emotion carries over from one corpus to another in arousal, hardly in valence.
- Meaning in other languages than English: the sentence encoder is English. Of a German sentence it hears mostly the voice.
- Comparing recordings made in different ways: microphone, room and codec move the scores.
- Telling apart small differences in dominance, which acted and rated corpora define differently.
"""


LOOKS = "one"
"""How often RAVDESS was looked at in the making of the present recipe."""


def write(folder: Path, measured: dict[str, Measured], config: MsfSerConfig) -> None:
    """Write MODEL_CARD.md with the rows that were measured."""
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

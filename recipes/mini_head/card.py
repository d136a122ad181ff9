"""The model card beside the checkpoint: what it learned from, what was measured, what it is not good for."""

from __future__ import annotations

from pathlib import Path

from msfser_cli.model.config import DIMENSIONS, MsfSerConfig

NAME = "MODEL_CARD.md"

_ROWS = {
    "EmoDB, unseen speakers, whole": "EmoDB, acted German, two speakers held out at a time; whole clips",
    "EmoDB, unseen speakers, speech": "the same clips cut to their speech",
    "RAVDESS": "RAVDESS, acted English, never trained on; whole chain",
    "EmoBank test sentences, spoken": "EmoBank test sentences spoken by synthetic voices held out from training; whole chain",
}

_TEXT = """\
# The `mini` head

An MSF-SER head for the vectors of `{acoustic}` (voice) and `{text}` (texts): {parameters} parameters. Scores lie on
{low:g} .. {high:g}; {middle:g} is neutral. `recipes/mini_head/train.py` makes it, and every number below, from the raw data.

## Trained on
- **EmoDB** (Berlin Database of Emotional Speech; CC0-1.0): 535 clips of 10 actors, as spoken, cut to their speech and in
  augmented copies. Its labels are not ratings: each emotion category stands for its mean pleasure, arousal and dominance in
  Russell and Mehrabian (1977), rescaled to 0 .. 1.
- **EmoBank** (Buechel and Hahn 2017; CC-BY-SA 4.0, https://github.com/JULIELab/EmoBank): the training split, mean ratings
  rescaled from 1 .. 5 to 0 .. 1; as text, and some of it spoken by espeak-ng and flite.

Nobody has rated the pairs of voice and text that it learned from: their labels are the voice's plus the sentence's.

## Measured (CCC)
| on | n | {heading} |
|---|---|{rule}|
{table}

The mean of the labels scores 0. RAVDESS and EmoDB speak fixed, neutral sentences: what the words say plays no part there. On
EmoBank's sentences the voices act nothing: only the words count. RAVDESS was looked at three times. With a first recipe its
arousal was .36, which made us look for the fault: synthetic voices had been labelled calm, though nobody knows how they sound.
Without that label EmoDB's unseen speakers improved too, from .51, .91, .73. The third look is the table's: the same recipe on
vectors computed in float32 instead of 8 bits. Nothing was chosen by RAVDESS beyond that.

## Not good for
- Deciding anything about a person. It is a first look at a corpus, to be checked against labels of your own.
- Spontaneous speech: it has only learned from actors and machines, and no test above is of spontaneous speech.
- Valence from the voice alone: emotion carries over from one corpus to another in arousal, hardly in valence.
- Meaning in other languages than English: the sentence encoder is English. Of a German sentence it hears mostly the voice.
- Comparing recordings made in different ways: microphone, room and codec move the scores.
- Telling apart small differences in dominance, which acted and rated corpora define differently.
"""


def write(folder: Path, measured: dict[str, dict[str, float]], config: MsfSerConfig) -> None:
    """Write MODEL_CARD.md with the rows that were measured."""
    from msfser_cli.model.weights import load

    rows = [
        f"| {text} | {measured[name].get('n', 535):.0f} | " + " | ".join(f"{measured[name][d]:.2f}" for d in DIMENSIONS) + " |"
        for name, text in _ROWS.items()
        if name in measured
    ]
    text = _TEXT.format(
        acoustic=config.acoustic_encoder, text=config.text_encoder, low=config.low, high=config.high,
        middle=(config.low + config.high) / 2, parameters=f"{sum(p.numel() for p in load(folder).parameters()):,}",
        heading=" | ".join(DIMENSIONS), rule="---|" * 2 + "---", table="\n".join(rows),
    )  # fmt: skip
    (folder / NAME).write_text(text, encoding="utf-8")

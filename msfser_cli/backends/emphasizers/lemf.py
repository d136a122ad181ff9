"""LEMF: the prominence of each word from its pitch, energy and duration against the rest of its utterance.

Three cues a word, each z-scored over the words of the utterance (population deviation), then

    s(w) = a z_pitch(w) + b z_energy(w) + c z_duration(w)

- pitch: log-F0 of the word's voiced frames
- energy: L2 norm of its short-time Fourier transform's frames, in dB
- duration: seconds per phone, phones estimated from the spelling (`backends.spelling`), over the part of the word that sounds:
  recognisers let a word run on into the pause after it

That the cues are these, the z-score and the sum follow the published account of MSF-SER's Local Emphasis Modeling Framework; the
weights and what follows are this project's own:

- Pitch and energy are taken where the word is high, the 90th percentile of its frames: an accent is a peak on one syllable, and a
  mean over the word thins it out with the other syllables, the consonants and whatever a recogniser's times took in of the
  neighbours.
- A word without voiced frames has no pitch cue: its `pitch_z` is null and counts as 0, the utterance's mean, in the sum.
- Where a cue does not vary over the utterance by as much as an ear can tell (deviation under 0.2 semitones, 0.5 dB or 3 % of the
  mean duration), every word's z is 0: nobody stands out.
- No score, and no part in the others' means: words of zero length or beyond the end of the audio, words whose times are
  interpolated, words without a letter or digit.
- With fewer than two words that could be scored there is nothing to stand out from: no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Row, pitch, spectrum, spelling

if TYPE_CHECKING:
    from msfser_cli.settings import EmphasizeSettings
    from msfser_cli.store.audio import Audio

REQUIRES = ("swift_f0",)
CUES = ("pitch_z", "energy_z", "duration_z")

# Smallest deviation that counts, per cue: log-F0 (0.2 semitones), dB, share of the mean duration.
_SMALLEST_DEVIATION = {"pitch_z": 0.2 * np.log(2) / 12, "energy_z": 0.5, "duration_z": 0.03}
# Percentile of a word's frames that stands for the word.
_HEIGHT = 90
_DECIMALS = 4


def load(settings: EmphasizeSettings) -> Lemf:
    """LEMF with the pitch tracker and cue weights of `settings`."""
    return Lemf(settings.pitch, (settings.pitch_weight, settings.energy_weight, settings.duration_weight))


@dataclass(frozen=True)
class Lemf:
    """`weights` are a, b, c for pitch, energy and duration."""

    pitch_method: str
    weights: tuple[float, float, float]

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """For each utterance `emphasis` (float or None a word) and `emphasis_cues` (a dict of `CUES` a word)."""
        return [self._utterance(audio, row) for row in rows]

    def _utterance(self, audio: Audio, row: Row) -> Row:
        words = row["words"]
        measured = [_cues(audio, word, row["language"], self.pitch_method) for word in words]
        scored = [i for i, cues in enumerate(measured) if cues is not None]
        emphasis: list[float | None] = [None] * len(words)
        cues_out: list[dict[str, float | None]] = [dict.fromkeys(CUES) for _ in words]
        if len(scored) < 2:
            return {"emphasis": emphasis, "emphasis_cues": cues_out}
        table = np.array([measured[i] for i in scored], dtype=np.float64)
        z = np.column_stack([_z(table[:, k], cue) for k, cue in enumerate(CUES)])
        scores = np.nan_to_num(z) @ np.array(self.weights)
        for i, word_z, score in zip(scored, z, scores, strict=True):
            emphasis[i] = _rounded(score)
            cues_out[i] = {cue: _rounded(value) for cue, value in zip(CUES, word_z, strict=True)}
        return {"emphasis": emphasis, "emphasis_cues": cues_out}


def _cues(audio: Audio, word: dict[str, Any], language: str, pitch_method: str) -> tuple[float, float, float] | None:
    """Log-F0 (NaN where unvoiced) and level in dB at a word's height, and its seconds per phone; None if it cannot be scored."""
    phones = spelling.phones(word["word"], language)
    start, end = max(float(word["start"]), 0.0), min(float(word["end"]), audio.duration)
    if phones == 0 or not word["aligned"] or end <= start:
        return None
    track, frames = pitch.of(audio, pitch_method), spectrum.of(audio)
    power = frames.power[frames.frames(start, end)]
    if len(power) == 0:
        return None
    sounding = np.flatnonzero(spectrum.speech(frames, track, start, end))
    sounding_time = (sounding[-1] - sounding[0] + 1) * spectrum.HOP if len(sounding) else end - start
    f0 = track.voiced(start, end)
    log_f0 = float(np.percentile(np.log(f0), _HEIGHT)) if len(f0) else float("nan")
    return log_f0, float(spectrum.decibels(np.percentile(power, _HEIGHT))), sounding_time / phones


def _z(values: np.ndarray, cue: str) -> np.ndarray:
    """z-scores of `values` over those that are not NaN; all 0 where they do not vary enough to be heard."""
    if np.all(np.isnan(values)):
        return values
    mean, deviation = np.nanmean(values), np.nanstd(values)
    smallest = _SMALLEST_DEVIATION[cue] * (mean if cue == "duration_z" else 1.0)
    if deviation < smallest:
        return np.where(np.isnan(values), np.nan, 0.0)
    z: np.ndarray = (values - mean) / deviation
    return z


def _rounded(value: float) -> float | None:
    # Adding 0.0 turns -0.0 into 0.0.
    return None if np.isnan(value) else round(float(value), _DECIMALS) + 0.0

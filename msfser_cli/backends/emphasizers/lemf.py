"""LEMF: the prominence of each word, from its pitch, energy and duration relative to the other words of its utterance.

Each word has three cues. Each cue is z-scored over the words of the utterance (with the population deviation), then

    s(w) = a z_pitch(w) + b z_energy(w) + c z_duration(w)

- pitch: log-F0 of the word's voiced frames
- energy: L2 norm of the frames of its short-time Fourier transform, in dB
- duration: seconds per phone. Phones are estimated from the spelling (`backends.spelling`). Only the part with sound counts,
  because recognisers extend a word into the pause after it.

The cues, the z-score and the sum are those of the Local Emphasis Modeling Framework in the paper on MSF-SER. The weights and the
following rules are this project's own:

- Pitch and energy of a word are the 90th percentile of its frames. An accent is a peak on one syllable. A mean would blur it with
  other syllables, consonants, and parts of the neighbouring words that inexact times include.
- A word without voiced frames has no pitch cue. Its `pitch_z` is null and counts as 0, the utterance's mean, in the sum.
- If a cue varies less than listeners can hear (deviation below 0.2 semitones, 0.5 dB, or 3 % of the mean duration), its z is 0
  for all words.
- Some words get no score and do not count for the others: words without length or beyond the end of the audio, words with
  interpolated times, and words without a letter or digit.
- An utterance with fewer than two words that can be scored gets no scores.
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

# The smallest deviation of each cue that counts: log-F0 (0.2 semitones), dB, share of the mean duration.
_SMALLEST_DEVIATION = {"pitch_z": 0.2 * np.log(2) / 12, "energy_z": 0.5, "duration_z": 0.03}
# The percentile of a word's frames that represents the word.
_HEIGHT = 90
_DECIMALS = 4


def load(settings: EmphasizeSettings) -> Lemf:
    """LEMF with the pitch tracker and cue weights of `settings`."""
    return Lemf(settings.pitch, (settings.pitch_weight, settings.energy_weight, settings.duration_weight))


@dataclass(frozen=True)
class Lemf:
    """weights: a, b, c for pitch, energy and duration. pitch_method: one of `settings.PITCH_TRACKERS`."""

    pitch_method: str
    weights: tuple[float, float, float]

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """For each utterance, `emphasis` (per word a float, or None) and `emphasis_cues` (per word a dict of `CUES`)."""
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
    """Log-F0 (NaN if unvoiced) and level (dB) of a word at `_HEIGHT`, and its seconds per phone. None: it gets no score."""
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
    """z-scores of `values` [words] over those that are not NaN. All are 0 if they vary less than `_SMALLEST_DEVIATION`."""
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

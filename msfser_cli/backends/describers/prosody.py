"""Delivery in words, from measured pitch, loudness, rate, pauses and voice quality. The same audio gives the same words.

Every number is a column of its own (`schemas.DESCRIBE`), and `sentence` depends on those columns alone. A number that could not
be measured is null, and the sentence leaves it out. The words come from fixed bins (`SCALES`). The wording does not vary, because
a small sentence encoder reads it. The description speaks of delivery only, not of emotion. It does not quote the emphasised
words, because they are a stream of their own. If they were in two streams, an ablation could remove neither (recipes/controlled).

Two measures are chosen to match what a listener hears:

- **Loudness.** The level of a file depends mostly on gain, so msfser measures it (`loudness_db`) but does not put it into words.
  Listeners tell a shout from a murmur at any playback level, by the spectrum: vocal effort raises the upper partials
  (Traunmueller & Eriksson 2000). So the words for effort come from the alpha ratio of the voiced frames, which does not depend on
  gain. Level is worded only relative to the median of the same speaker's utterances. A change of gain does not change the
  sentence. A microphone or codec that makes the sound duller or brighter does.
- **Pitch level.** With several utterances, pitch is relative to the median over the speaker's utterances in the recording, or
  over the whole recording if speakers are unknown. A single utterance has no such reference. Its median in Hz is worded instead,
  in bins that are the same for all genders, so a man's raised voice can get the same words as a woman's calm voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Row, pitch, speakers, spectrum, spelling
from msfser_cli.backends.parallel import each
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from msfser_cli.settings import DescribeSettings
    from msfser_cli.store.audio import Audio

REQUIRES = ("swift_f0",)

Number = float | None


@dataclass(frozen=True)
class Scale:
    """The words for a quantity. `words[i]` is for values from `edges[i - 1]` to below `edges[i]`; "" leaves the value out.

    source: where the edges come from.
    """

    edges: tuple[float, ...]
    words: tuple[str, ...]
    source: str

    def word(self, value: Number) -> str:
        """The words for `value`; "" for None."""
        return "" if value is None else self.words[int(np.searchsorted(self.edges, value, side="right"))]


_PITCH_WORDS = ("very low pitch", "low pitch", "medium pitch", "high pitch", "very high pitch")

SCALES: dict[str, Scale] = {
    "pitch_median_hz": Scale(
        (110, 150, 200, 260), _PITCH_WORDS,
        "ours: about 5 semitones a step, around the typical 120 Hz of men and 210 Hz of women (Traunmueller & Eriksson 1995)",
    ),
    "pitch_relative_st": Scale(
        (-4, -1.5, 1.5, 4), _PITCH_WORDS,
        "good listeners hear a difference of 1.5 to 2 semitones in speech ('t Hart 1981); 4 is ours",
    ),
    "pitch_range_st": Scale(
        (5, 8, 12, 16), ("a very narrow range", "a narrow range", "a medium range", "a wide range", "a very wide range"),
        "quantiles .1, .2, .5, .8 of EmoDB; read English has 6 to 16",
    ),
    "pitch_movement_st_per_s": Scale(
        (13, 18, 26, 36),
        ("very little movement", "little movement", "moderate movement", "lively movement", "very lively movement"),
        "read and spontaneous English has 12 to 35, median 17; in EmoDB the medians of bored, neutral, happy are 14, 23, 38",
    ),
    "pitch_slope_st_per_s": Scale((-4, 1), ("falling throughout", "", "rising throughout"), "quantiles .2 and .9 of EmoDB"),
    "pitch_final_st": Scale(
        (-3, 3), ("falling at the end", "", "rising at the end"), "smallest change that matters in communication ('t Hart 1981)",
    ),
    "alpha_ratio_db": Scale(
        (-16, -10, -5, 0),
        ("a very soft, dark voice", "a soft, mellow voice", "a voice of medium strength", "a strong, bright voice",
         "a very strong, sharp, pressed voice"),
        "medians of sad, neutral and angry speech in EmoDB are -17, -11 and 0",
    ),
    "hnr_db": Scale((7, 12), ("rough", "", "clear"), "quantiles .2 and .85 of EmoDB"),
    "loudness_range_db": Scale((17, 21), ("even loudness", "", "strongly varying loudness"), "quantiles .15 and .7 of EmoDB"),
    "loudness_relative_db": Scale(
        (-5, -2, 2, 5), ("much quieter than usual", "quieter than usual", "", "louder than usual", "much louder than usual"),
        "ours; 10 dB more sounds twice as loud (Stevens 1955)",
    ),
    "articulation_rate_hz": Scale(
        (3.6, 4.8, 6, 7.2), ("very slow", "slow", "moderately fast", "fast", "very fast"),
        "ours: read English has 3.6 to 5.7, German sentences in EmoDB a median of 6.2, Hebrew talk a mean of 6.3 (Amir 2016)",
    ),
    "pause_share": Scale(
        (0.001, 0.1, 0.25), ("without pauses", "with few pauses", "with pauses", "with many pauses"),
        "ours: read English has 0 to .15, meetings .15 to .55",
    ),
}
"""How numbers become words. Scales are absolute unless the name says `relative`.

The quantiles and medians were measured with this module. EmoDB is acted German (342 whole sentences). Read and spontaneous
English are 22 clips of LJ Speech, LibriSpeech, AMI and others.
"""

MEASURES = (
    "pitch_median_hz", "pitch_relative_st", "pitch_range_st", "pitch_movement_st_per_s", "pitch_slope_st_per_s", "pitch_final_st",
    "loudness_db", "loudness_relative_db", "loudness_range_db", "alpha_ratio_db", "hnr_db",
    "articulation_rate_hz", "pause_share", "pause_longest",
)

# Shortest silence (s) that counts as a pause. Shorter ones can be the closure of a plosive (Goldman-Eisler 1968).
_SHORTEST_PAUSE = 0.25
# Least voiced time (s) for pitch to be measured.
_LEAST_VOICED = 0.2
# Length (s) of the end of voicing over which the final pitch movement is measured.
_FINAL = 0.5
_DECIMALS = 3


def needs(settings: DescribeSettings) -> None:
    """None, because prosody uses no model. UsageError if the settings name one."""
    if model := settings.target or settings.describer_model:
        raise UsageError(f"the describer prosody uses no model, but {model} is given; leave it out, or choose another describer")


def load(settings: DescribeSettings, model: None = None) -> Prosody:
    """The describer with the pitch tracker of `settings`."""
    return Prosody(settings.pitch)


@dataclass(frozen=True)
class Prosody:
    """Measures each utterance, compares it with the speaker's others in the recording, and puts the result into words.

    pitch_method: one of `settings.PITCH_TRACKERS`.
    """

    pitch_method: str

    def describe(self, audios: Sequence[Audio], rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
        """For each utterance of each recording, the columns of `schemas.DESCRIBE`. Each recording is related only to itself."""
        return [self._described(audio, of_audio) for audio, of_audio in zip(audios, rows, strict=True)]

    def _described(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        track, frames = pitch.of(audio, self.pitch_method), spectrum.of(audio)
        measured = each(lambda row: _measure(audio, track, frames, row), rows)
        _relate(rows, measured)
        out: list[Row] = []
        for numbers in measured:
            rounded = {name: _rounded(numbers.get(name)) for name in MEASURES}
            out.append({**rounded, "description": sentence(rounded), "description_fallback": None})
        return out


def _measure(audio: Audio, track: pitch.PitchTrack, frames: spectrum.Spectrum, row: Row) -> dict[str, Number]:
    start, end = max(float(row["start"]), 0.0), min(float(row["end"]), audio.duration)
    part = frames.frames(start, end)
    voiced = track.voiced_at(frames.times(part))
    if not row["words"] and not voiced.any():
        return {}
    sounding = spectrum.speech(frames, track, start, end)
    if not sounding.any():
        return {}
    numbers = _pitch(track, start, end) | _level(frames.power[part][sounding]) | _timing(sounding, row)
    if np.count_nonzero(voiced) * spectrum.HOP >= _LEAST_VOICED:
        high, low = frames.high[part][voiced].sum(), frames.low[part][voiced].sum()
        numbers["alpha_ratio_db"] = float(spectrum.decibels(high) - spectrum.decibels(low))
        numbers["hnr_db"] = float(np.mean(spectrum.harmonicity(audio.samples, track, start, end)))
    return numbers


def sentence(numbers: dict[str, Number]) -> str | None:
    """The description of an utterance. numbers: values by the names of `MEASURES`; None or absent if not measured.

    None if there is nothing to say.
    """
    words = {name: scale.word(numbers.get(name)) for name, scale in SCALES.items()}
    level = words["pitch_median_hz"] if numbers.get("pitch_relative_st") is None else words["pitch_relative_st"]
    movement = _listed([words["pitch_range_st"], words["pitch_movement_st_per_s"]])
    overall, final = words["pitch_slope_st_per_s"], words["pitch_final_st"]
    contour = overall if overall[:4] == final[:4] else _listed([overall, final])
    pitch_part = ", ".join(filter(None, (" with ".join(filter(None, (level, movement))), contour)))
    voice_part = ", ".join(filter(None, (
        words["alpha_ratio_db"], words["hnr_db"], words["loudness_relative_db"],
        "with " + words["loudness_range_db"] if words["loudness_range_db"] else "",
    )))
    rate = words["articulation_rate_hz"]
    second = " ".join(filter(None, (rate, "speech", words["pause_share"]))) if rate or words["pause_share"] else ""
    first = "; ".join(filter(None, (pitch_part, voice_part)))
    return " ".join(part[0].upper() + part[1:] + "." for part in (first, second) if part) or None


def _pitch(track: pitch.PitchTrack, start: float, end: float) -> dict[str, Number]:
    frames = track.frames(start, end)
    f0, times = track.f0_hz[frames], track.times(frames)
    voiced = ~np.isnan(f0)
    if np.count_nonzero(voiced) * track.hop < _LEAST_VOICED:
        return {}
    times, semitones = times[voiced], 12 * np.log2(f0[voiced])
    low, high = np.percentile(semitones, [5, 95])
    steps = np.abs(np.diff(semitones))[np.diff(times) < 1.5 * track.hop]
    final = semitones[times > times[-1] - _FINAL]
    third = max(1, len(final) // 3)
    return {
        "pitch_median_hz": float(np.median(f0[voiced])),
        "pitch_range_st": float(high - low),
        "pitch_movement_st_per_s": float(np.median(steps) / track.hop) if len(steps) else None,
        "pitch_slope_st_per_s": float(np.polyfit(times - times[0], semitones, 1)[0]),
        "pitch_final_st": float(np.median(final[-third:]) - np.median(final[:third])),
    }


def _level(power: np.ndarray) -> dict[str, Number]:
    low, high = np.percentile(spectrum.decibels(power), [10, 95])
    return {"loudness_db": float(spectrum.decibels(power.mean())), "loudness_range_db": float(high - low)}


def _timing(sounding: np.ndarray, row: Row) -> dict[str, Number]:
    """Pauses between the first and the last sounding frame, and syllables per second outside of them. sounding: bool [frames]."""
    indices = np.flatnonzero(sounding)
    total = float(indices[-1] - indices[0] + 1) * spectrum.HOP
    silences = (np.diff(indices) - 1) * spectrum.HOP
    pauses = silences[silences >= _SHORTEST_PAUSE]
    spoken = total - float(pauses.sum())
    count = sum(spelling.syllables(word["word"], row["language"]) for word in row["words"])
    return {
        "articulation_rate_hz": count / spoken if count else None,
        "pause_share": float(pauses.sum()) / total,
        "pause_longest": float(pauses.max()) if len(pauses) else 0.0,
    }


def _relate(rows: Sequence[Row], measured: Sequence[dict[str, Number]]) -> None:
    """Add pitch and level relative to the median over the same speaker's utterances, if there are at least two."""
    for name, relative in (("pitch_median_hz", "pitch_relative_st"), ("loudness_db", "loudness_relative_db")):
        for of_speaker in speakers.together(rows):
            values = [value for i in of_speaker if (value := measured[i].get(name)) is not None]
            if len(values) < 2:
                continue
            median = float(np.median(values))
            for i in of_speaker:
                if (value := measured[i].get(name)) is not None:
                    measured[i][relative] = 12 * float(np.log2(value / median)) if relative.endswith("_st") else value - median


def _listed(parts: Sequence[str]) -> str:
    """The non-empty parts as a list in English: "a", "a and b", "a, b and c"."""
    *others, last = [part for part in parts if part] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _rounded(value: Number) -> Number:
    return None if value is None or not np.isfinite(value) else round(float(value), _DECIMALS) + 0.0

"""transcribe: from a recording's audio to utterances with timed words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from msfser_cli.backends import Row, Transcriber, Transcript, Word, text_of
from msfser_cli.errors import RecordingError
from msfser_cli.stages import coverage
from msfser_cli.store.audio import Audio
from msfser_cli.store.levels import levelled

if TYPE_CHECKING:
    from msfser_cli.backends.diarization import Diarizer, Turn
    from msfser_cli.settings import TranscribeSettings

SENTENCE_END = ".?!…。！？"
CLAUSE_END = ",;:،、，；："
OPENING = "\"'“‘«„¿¡(["
CLOSING = "\"'”’»)]"
TITLES = frozenset((
    "mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "mt.", "capt.", "sgt.", "gov.", "vs.", "e.g.", "i.e.", "hr.", "fr.", "nr.",
    "z.b.", "d.h.", "bzw.", "mme.", "mlle.", "sr.", "sra.", "dra.", "sig.", "dott.",
))  # fmt: skip
"""Abbreviations, in lower case, that need a word after them: no sentence ends there."""
ORDINALS = frozenset((
    "de", "lb", "da", "no", "nn", "is", "fo", "fi", "et", "lv", "pl", "cs", "sk", "sl", "hr", "bs", "sr", "hu", "tr",
))  # fmt: skip
"""Languages in which "3." means the third."""
MARGIN = 0.1
"""Seconds kept before the first and after the last word: word times cut into soft onsets and endings."""
NEAR = 1.0
"""A short utterance joins a neighbour no further away than this, in seconds."""

_SHOWN = 20  # segments that a note names


@dataclass(frozen=True)
class Segment:
    """What a manifest says of a stretch of a recording: times in seconds, its text, speaker and language, where given.

    place: where it stands in the manifest, such as `line 3`, for messages; it does not change the work.
    """

    start: float | None = None
    end: float | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    place: str = field(default="", compare=False)

    @property
    def is_utterance(self) -> bool:
        """Whether the manifest itself marks off an utterance, by times or by text."""
        return self.start is not None or self.end is not None or self.text is not None


def transcribe(
    recording_id: str, audio: Audio, segments: Sequence[Segment], transcriber: Transcriber, settings: TranscribeSettings,
    diarizer: Diarizer | None = None,
) -> list[Row]:  # fmt: skip
    """The utterances of one recording, in order, with the columns of `schemas.TRANSCRIBE`; none where nobody speaks.

    A segment that has times or a text is one utterance as given; otherwise utterances are cut by `settings.unit`. With a
    `diarizer`, the speaker is the one who is heard most, unless the segment names one, and utterances that are cut have only one.
    A segment whose times do not fit the recording is left out, and noted in the `audio`. Raises RecordingError if none fits.
    Sets the seconds of speech and of transcribed speech of the `audio`.
    """
    rows: list[Row] = []
    regions: list[coverage.Span] | None = []
    spoken: list[coverage.Span] = []
    if not segments and not round(audio.duration, 3):
        audio.speech_seconds = audio.transcribed_seconds = 0.0
        return rows  # nobody speaks within half a millisecond
    stretches = _fitting(segments or (Segment(),), audio)
    heard = levelled(audio)
    turns = cache(lambda: diarizer.turns(heard.samples) if diarizer else [])  # of the whole recording, and only where it is asked
    for segment, start, end in stretches:
        language = segment.language or settings.language
        samples = heard.stretch(start, end)
        if segment.text is not None:
            transcript = transcriber.align(samples, segment.text, language)
        else:
            transcript = transcriber.transcribe(samples, language)
        words = [_moved(w, start) for w in transcript.words]
        spoken += [(w.start, w.end) for w in words]
        if regions is None or transcript.regions is None:
            regions = None
        else:
            regions += [(start + first, start + last) for first, last in transcript.regions]
        if segment.is_utterance or (settings.unit == "file" and transcript.speech):
            speaker = segment.speaker
            if speaker is None and transcript.speech:
                speaker = speaker_of(start, end, turns())
            rows.append(_row(speaker, transcript, words, start, end, segment.text))
        else:
            if segment.speaker is None:
                words = [replace(w, speaker=speaker_of(w.start, w.end, turns())) for w in words]
            for group, first, last in utterances(words, start, end, settings):
                rows.append(_row(segment.speaker or group[0].speaker, transcript, group, first, last, None))
    if regions is not None:
        audio.speech_seconds = round(coverage.seconds(regions), 3)
        audio.transcribed_seconds = round(coverage.seconds_with_words(regions, spoken), 3)
    rows.sort(key=lambda row: (row["start"], row["end"]))
    return [{"recording_id": recording_id, "utterance_id": f"{recording_id}#{i:04d}", **row} for i, row in enumerate(rows)]


def joined(recording_id: str, segments: Sequence[Segment], heard: Mapping[int | None, list[Row]]) -> list[Row]:
    """The rows of the channels of one recording, by channel, as rows of the recording, numbered in the order of their start.

    Each has its `channel`, and of several channels a speaker, CHANNEL_0 and so on, unless a manifest names one. Where a manifest
    marks off an utterance, it is a row of each channel in which words are recognised, or of one if there are none; with a text,
    it is a row of the channel that the text fits best.
    """
    if len(heard) == 1:
        return [{**row, "channel": channel} for channel, rows in heard.items() for row in rows]
    named, texts = ({getattr(segment, name) for segment in segments} for name in ("speaker", "text"))
    same_times: dict[tuple[float, float], list[Row]] = {}
    for channel, rows in heard.items():
        for row in rows:
            if row["speaker"] is None or row["speaker"] not in named:
                row["speaker"] = "_".join(filter(None, [f"CHANNEL_{channel}", row["speaker"]]))
            same_times.setdefault((row["start"], row["end"]), []).append({**row, "channel": channel})
    kept: list[Row] = []
    for _, rows in sorted(same_times.items(), key=lambda item: item[0]):
        if rows[0]["text"] in texts:
            kept.append(max(rows, key=_fit))
        else:
            kept += [row for row in rows if row["words"]] or rows[:1]
    return [{**row, "recording_id": recording_id, "utterance_id": f"{recording_id}#{i:04d}"} for i, row in enumerate(kept)]


def _fit(row: Row) -> float:
    """The mean score of a row's words, 0 for none."""
    scores = [word["score"] or 0.0 for word in row["words"]]
    return sum(scores) / len(scores) if scores else 0.0


def speaker_of(start: float, end: float, turns: Sequence[Turn]) -> str | None:
    """Who is heard longest from `start` to `end`, else nearest to it; None where nobody is heard at all.

    The turns are in order and do not overlap.
    """
    heard: dict[str, float] = {}
    first = bisect_right(turns, start, key=lambda turn: turn.end)
    for turn in turns[first:]:
        if turn.start >= end:
            break
        heard[turn.speaker] = heard.get(turn.speaker, 0.0) + min(end, turn.end) - max(start, turn.start)
    if heard:
        return max(heard, key=lambda speaker: heard[speaker])
    near = turns[max(0, first - 1) : first + 1]
    return min(near, key=lambda turn: max(turn.start - end, start - turn.end)).speaker if near else None


def utterances(
    words: Sequence[Word], start: float, end: float, settings: TranscribeSettings
) -> list[tuple[list[Word], float, float]]:
    """Groups of words with their start and end, cut at pauses, sentence ends and where the speaker or the language changes, never
    in a word, within `start`..`end`.

    Groups under `min_utterance` join their nearest neighbour of the same speaker and language. Those over `max_utterance` are cut
    at their longest pause, a clause end counting as one. A single word longer than that stays as it is.
    """
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _breaks(groups[-1][-1], word, settings.pause):
            groups[-1].append(word)
        else:
            groups.append([word])
    groups = [part for group in _joined(groups, settings) for part in _split(group, settings)]
    cut: list[tuple[list[Word], float, float]] = []
    for i, group in enumerate(groups):
        before = (groups[i - 1][-1].end + group[0].start) / 2 if i else start
        after = (group[-1].end + groups[i + 1][0].start) / 2 if i + 1 < len(groups) else end
        first = min(group[0].start, max(before, group[0].start - MARGIN))
        last = max(group[-1].end, min(after, group[-1].end + MARGIN))
        cut.append((group, round(max(start, first), 3), round(min(end, last), 3)))
    return cut


def _length(group: Sequence[Word]) -> float:
    return group[-1].end - group[0].start


def _ends_with(word: Word, marks: str) -> bool:
    return word.word.rstrip(CLOSING).endswith(tuple(marks))


def _breaks(left: Word, right: Word, pause: float) -> bool:
    return right.start - left.end >= pause or _ends_sentence(left, right) or not _same_voice(left, right)


def _ends_sentence(left: Word, right: Word) -> bool:
    """Whether a sentence ends with `left`, which `right` follows: not with "Dr.", "am 3. Dezember" or "9 a.m. to"."""
    if not _ends_with(left, SENTENCE_END):
        return False
    if not left.word.endswith((".", "…")):
        return True
    is_ordinal = left.language in ORDINALS and left.word[:-1].isdecimal() and len(left.word) <= 3
    return not (is_ordinal or left.word.lstrip(OPENING).lower() in TITLES or right.word.lstrip(OPENING)[:1].islower())


def _same_voice(left: Word, right: Word) -> bool:
    return (left.speaker, left.language) == (right.speaker, right.language)


def _joined(groups: list[list[Word]], settings: TranscribeSettings) -> list[list[Word]]:
    """Short groups joined to the nearer neighbour of the same speaker and language, if near and not too long together."""
    groups = list(groups)
    i = 0
    while i < len(groups):
        if _length(groups[i]) >= settings.min_utterance:
            i += 1
            continue
        neighbours = [j for j in (i - 1, i + 1) if 0 <= j < len(groups) and _same_voice(groups[j][0], groups[i][0])]
        gaps = {j: groups[max(i, j)][0].start - groups[min(i, j)][-1].end for j in neighbours}
        fitting = [
            j
            for j in neighbours
            if gaps[j] <= NEAR and groups[max(i, j)][-1].end - groups[min(i, j)][0].start <= settings.max_utterance
        ]
        if not fitting:
            i += 1
            continue
        j = min(fitting, key=lambda j: gaps[j])
        low = min(i, j)
        groups[low : low + 2] = [groups[low] + groups[low + 1]]
        i = low
    return groups


def _split(group: list[Word], settings: TranscribeSettings) -> list[list[Word]]:
    if _length(group) <= settings.max_utterance or len(group) == 1:
        return [group]
    middle = (group[0].start + group[-1].end) / 2

    def quality(i: int) -> tuple[float, float]:
        long_enough = min(_length(group[:i]), _length(group[i:])) >= settings.min_utterance
        pause = group[i].start - group[i - 1].end + (settings.pause / 2 if _ends_with(group[i - 1], CLAUSE_END) else 0)
        return (pause if long_enough else -1.0, -abs(group[i].start - middle))

    cut = max(range(1, len(group)), key=quality)
    return _split(group[:cut], settings) + _split(group[cut:], settings)


def _fitting(segments: Sequence[Segment], audio: Audio) -> list[tuple[Segment, float, float]]:
    """The segments that fit the recording, with their times; the `audio` notes the others. RecordingError if none fits."""
    timed = [(segment, _times(segment, audio.duration)) for segment in segments]
    misfits = [segment for segment, times in timed if times is None]
    if misfits:
        shown = ", ".join(f"{s.place}: {s.start or 0:g} s to {'its end' if s.end is None else f'{s.end:g} s'}".lstrip(": ")
                          for s in misfits[:_SHOWN])  # fmt: skip
        more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        problem = f"{len(misfits)} of {len(segments)} segments do not fit the recording of {audio.duration:.3f} s ({shown}{more})"
        if len(misfits) == len(segments):
            raise RecordingError("bad_segment", problem)
        audio.notes.append(f"{problem} and are left out")
        audio.incomplete = "bad_segment"
    return [(segment, *times) for segment, times in timed if times is not None]


def _times(segment: Segment, duration: float) -> tuple[float, float] | None:
    """Start and end of a segment in seconds; None if they are not within the recording."""
    start = 0.0 if segment.start is None else segment.start
    # Manifests round their times: a last frame's worth beyond the end is the end.
    end = duration if segment.end is None else (duration if duration < segment.end <= duration + 0.1 else segment.end)
    fits = 0 <= round(start, 3) < round(end, 3) <= round(duration, 3)
    return (round(start, 3), round(end, 3)) if fits else None


def _moved(word: Word, offset: float) -> Word:
    start, end = round(word.start + offset, 3), round(word.end + offset, 3)
    return replace(word, start=start, end=end, score=None if word.score is None else round(word.score, 4))


def _language(transcript: Transcript, words: Sequence[Word]) -> tuple[str, float | None]:
    """The language in which most of the words are, and the mean of its probabilities over them."""
    overall = (transcript.language, transcript.language_probability)
    spoken = [(w.language, w.language_probability) if w.language else overall for w in words] or [overall]
    languages = [language for language, _ in spoken]
    language = max(dict.fromkeys(languages), key=languages.count)
    known = [p for code, p in spoken if code == language and p is not None]
    return language, round(sum(known) / len(known), 4) if known else None


def _row(speaker: str | None, transcript: Transcript, words: Sequence[Word], start: float, end: float, text: str | None) -> Row:
    language, probability = _language(transcript, words)
    return {
        "start": start,
        "end": end,
        "speaker": speaker,
        "channel": None,
        "language": language,
        "language_probability": probability,
        "text": text_of(words) if text is None else text.strip(),
        "words": [
            {"word": w.word, "start": w.start, "end": w.end, "score": w.score, "aligned": w.aligned} for w in words
        ],
    }

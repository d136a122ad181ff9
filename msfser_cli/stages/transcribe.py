"""The stage transcribe: from the audio of a recording to utterances with timed words."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from msfser_cli.backends import Row, Transcriber, Transcript, Word, text_of
from msfser_cli.errors import RecordingError
from msfser_cli.stages import coverage
from msfser_cli.stages.overlaps import notes_on_overlaps
from msfser_cli.stages.work import Segment, Work
from msfser_cli.store.audio import Audio, Samples
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
"""Seconds kept before the first and after the last word, because word times cut off soft onsets and endings."""
NEAR = 1.0
"""A short utterance joins a neighbour that is at most this far away, in seconds."""

_SHOWN = 20  # the most segments that a note names


@dataclass
class _Stretch:
    """A part of one channel, from `start` to `end` seconds, that is transcribed by itself. segment: the manifest's data on it."""

    segment: Segment
    start: float
    end: float
    samples: Samples
    language: str | None


def transcribe(
    works: Sequence[Work], transcriber: Transcriber, settings: TranscribeSettings, diarizer: Diarizer | None = None
) -> None:
    """Make the utterances of each recording, in order, with the columns of `schemas.TRANSCRIBE`. No speech means no rows.

    A segment with times or a text is one utterance. Otherwise `settings.unit` says how utterances are cut. With a `diarizer`,
    the speaker of an utterance is the one who talks longest in it, unless the segment names one; utterances that are cut have
    one speaker each. If the times of a segment do not fit the recording, the segment is left out, with a note in the `audio`; if
    no segment fits, the recording fails. Sets `speech_seconds` and `transcribed_seconds` of each `audio`.
    """
    stretches: dict[tuple[int, int], list[_Stretch]] = {}
    for i, work in enumerate(works):
        with work.failing_alone():
            work.audio.notes += notes_on_overlaps([work.recording.segments])
            for j, part in enumerate(work.audio.parts):
                stretches[i, j] = _stretches(part, work.recording.segments, settings)
    going_on = [s for (i, _), of_part in stretches.items() if works[i].error is None for s in of_part]
    given = [s for s in going_on if s.segment.text is not None]
    unknown = [s for s in going_on if s.segment.text is None]
    aligned = transcriber.align([s.samples for s in given], [s.segment.text or "" for s in given], [s.language for s in given])
    recognised = transcriber.transcribe([s.samples for s in unknown], [s.language for s in unknown])
    transcripts = {id(s): t for s, t in zip([*given, *unknown], [*aligned, *recognised], strict=True)}
    for i, work in enumerate(works):
        if work.error is None:
            by_channel = {
                part.channel: _rows(part, stretches[i, j], [transcripts[id(s)] for s in stretches[i, j]], settings, diarizer)
                for j, part in enumerate(work.audio.parts)
            }
            audio, parts = work.audio, work.audio.parts
            audio.incomplete = next((part.incomplete for part in parts if part.incomplete), None)
            audio.speech_seconds = _total(part.speech_seconds for part in parts)
            audio.transcribed_seconds = _total(part.transcribed_seconds for part in parts)
            work.rows = joined(work.recording.recording_id, work.recording.segments, by_channel)


def _stretches(audio: Audio, segments: Sequence[Segment], settings: TranscribeSettings) -> list[_Stretch]:
    """The parts of one channel to transcribe. Raises RecordingError if no segment fits."""
    if not segments and not round(audio.duration, 3):
        return []  # half a millisecond is too short for speech
    level = levelled(audio)
    return [
        _Stretch(segment, start, end, level.stretch(start, end), segment.language or settings.language)
        for segment, start, end in _fitting(segments or (Segment(),), audio)
    ]


def _rows(
    audio: Audio, stretches: Sequence[_Stretch], transcripts: Sequence[Transcript], settings: TranscribeSettings,
    diarizer: Diarizer | None,
) -> list[Row]:  # fmt: skip
    """The utterances of one channel in order, without their ids. Sets `speech_seconds` and `transcribed_seconds`."""
    rows: list[Row] = []
    regions: list[coverage.Span] | None = []
    spoken: list[coverage.Span] = []
    turns = cache(lambda: diarizer.turns(levelled(audio).samples) if diarizer else [])  # of all of it, and only if needed
    for stretch, transcript in zip(stretches, transcripts, strict=True):
        segment, start, end = stretch.segment, stretch.start, stretch.end
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
    return rows


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one of the values is None."""
    values = list(seconds)
    return None if None in values else round(sum(s for s in values if s is not None), 3)


def joined(recording_id: str, segments: Sequence[Segment], by_channel: Mapping[int | None, list[Row]]) -> list[Row]:
    """The rows of the channels of one recording, joined and numbered in the order of their start.

    by_channel: channel -> rows. Each row gets its `channel`. If there are several channels, it also gets a speaker, CHANNEL_0
    and so on, unless the manifest names one. An utterance with times from the manifest becomes a row for each channel in which
    words are recognised, or a row of the first channel if no channel has words. An utterance with a text from the manifest
    becomes a row of the channel that the text fits best.
    """
    if len(by_channel) == 1:
        kept = [{**row, "channel": channel} for channel, rows in by_channel.items() for row in rows]
    else:
        kept = _merged(segments, by_channel)
    return [{**row, "recording_id": recording_id, "utterance_id": f"{recording_id}#{i:04d}"} for i, row in enumerate(kept)]


def _merged(segments: Sequence[Segment], by_channel: Mapping[int | None, list[Row]]) -> list[Row]:
    speakers = {segment.speaker for segment in segments if segment.speaker is not None}
    texts = {segment.text.strip() for segment in segments if segment.text is not None}
    same_segment: dict[tuple[float, float, str | None, str | None, int], list[Row]] = {}
    for channel, rows in by_channel.items():
        before: Counter[tuple[float, float, str | None, str | None]] = Counter()
        for row in rows:
            speaker = row["speaker"] if row["speaker"] in speakers else None
            text = row["text"] if row["text"] in texts else None
            key = (row["start"], row["end"], speaker, text)
            of_channel = speaker or "_".join(filter(None, [f"CHANNEL_{channel}", row["speaker"]]))
            same_segment.setdefault((*key, before[key]), []).append({**row, "channel": channel, "speaker": of_channel})
            before[key] += 1
    kept: list[Row] = []
    for _, rows in sorted(same_segment.items(), key=lambda item: item[0][:2]):
        if rows[0]["text"] in texts:
            kept.append(max(rows, key=_fit))
        else:
            kept += [row for row in rows if row["words"]] or rows[:1]
    return kept


def _fit(row: Row) -> float:
    """The mean score of a row's words; 0 if it has no words."""
    scores = [word["score"] or 0.0 for word in row["words"]]
    return sum(scores) / len(scores) if scores else 0.0


def speaker_of(start: float, end: float, turns: Sequence[Turn]) -> str | None:
    """The speaker who talks longest from `start` to `end`, or else the one nearest to that time. None if there are no turns.

    The turns are in order and do not overlap.
    """
    seconds: dict[str, float] = {}
    first = bisect_right(turns, start, key=lambda turn: turn.end)
    for turn in turns[first:]:
        if turn.start >= end:
            break
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + min(end, turn.end) - max(start, turn.start)
    if seconds:
        return max(seconds, key=lambda speaker: seconds[speaker])
    near = turns[max(0, first - 1) : first + 1]
    return min(near, key=lambda turn: max(turn.start - end, start - turn.end)).speaker if near else None


def utterances(
    words: Sequence[Word], start: float, end: float, settings: TranscribeSettings
) -> list[tuple[list[Word], float, float]]:
    """Groups of words with their start and end, within `start`..`end`.

    Words are cut into groups at pauses, at sentence ends, and where the speaker or the language changes, but never within a
    word. A group shorter than `min_utterance` joins its nearest neighbour of the same speaker and language. A group longer than
    `max_utterance` is cut at its longest pause; the end of a clause adds half of `pause` to the pause after it. A single word
    longer than that is not cut.
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
    """The groups, with each short one joined to its nearer neighbour of the same speaker and language.

    Groups stay apart if they are more than `NEAR` apart, or longer than `max_utterance` together.
    """
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
    """The segments that fit the recording, with their times. The others are left out, with a note in the `audio`.

    Raises RecordingError if no segment fits.
    """
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
    """Start and end of a segment in seconds. None if they are not within the recording."""
    start = 0.0 if segment.start is None else segment.start
    # Manifests round their times, so an end up to 0.1 s after the recording's counts as the recording's.
    end = duration if segment.end is None else (duration if duration < segment.end <= duration + 0.1 else segment.end)
    fits = 0 <= round(start, 3) < round(end, 3) <= round(duration, 3)
    return (round(start, 3), round(end, 3)) if fits else None


def _moved(word: Word, offset: float) -> Word:
    start, end = round(word.start + offset, 3), round(word.end + offset, 3)
    return replace(word, start=start, end=end, score=None if word.score is None else round(word.score, 4))


def _language(transcript: Transcript, words: Sequence[Word]) -> tuple[str, float | None]:
    """The language of most of the words, and its mean probability over these words."""
    overall = (transcript.language, transcript.language_probability)
    spoken = [(w.language, w.language_probability) if w.language else overall for w in words] or [overall]
    languages = [language for language, _ in spoken]
    language = max(dict.fromkeys(languages), key=languages.count)
    probabilities = [p for code, p in spoken if code == language and p is not None]
    return language, round(sum(probabilities) / len(probabilities), 4) if probabilities else None


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

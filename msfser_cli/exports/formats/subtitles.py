"""Subtitles, SubRip (SRT) and WebVTT: cues of at most two readable lines, the emphasised words in bold.

Written here and not by pysubs2, which drops text in braces and does not escape what WebVTT takes for markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording, Utterance, Word
from msfser_cli.exports.text import on_one_line, width
from msfser_cli.exports.tiers import milliseconds

LINE, LONGEST, SHORTEST = 42, 7.0, 1.0
"""The most columns of each of a cue's two lines, and its longest and shortest time in seconds, as subtitlers count."""

_ENDS_SENTENCE = re.compile(r"[.!?…。！？؟।][\"'»”’)]*$")
_ENDS_CLAUSE = re.compile(r"[,;:،、，；：–—][\"'»”’)]*$")


@dataclass(frozen=True)
class Cue:
    """Words that are shown together. lines: one or two. turn: whether the speaker is another one than in the cue before."""

    start: float
    end: float
    lines: tuple[tuple[Word, ...], ...]
    speaker: str | None
    turn: bool


def cues(recording: Recording, *, by_word: bool = False) -> Iterator[Cue]:
    """The cues of a recording in order of their start. A short one stays until the next one begins, for at most `SHORTEST`."""
    groups = [
        (group, utterance.speaker)
        for utterance in recording.utterances
        for group in ([[word] for word in _words(utterance)] if by_word else _grouped(_words(utterance)))
    ]
    groups.sort(key=lambda item: item[0][0].start)  # speakers may talk at once
    before: str | None = None
    for i, (group, speaker) in enumerate(groups):
        start, end = group[0].start, max(word.end for word in group)
        next_start = groups[i + 1][0][0].start if i + 1 < len(groups) else float("inf")
        if not by_word:
            end = max(end, min(start + SHORTEST, next_start))
        yield Cue(start, max(end, start + 0.001), tuple(_lines(group)), speaker, turn=speaker != before)
        before = speaker


def _words(utterance: Utterance) -> list[Word]:
    """The words, each on one line. Without words, those of the text, with times by their length."""
    if utterance.words:
        lines = ((word, on_one_line(word.text)) for word in utterance.words)
        return [replace(word, text=text, after=" " if word.after else "") for word, text in lines if text]
    parts = on_one_line(utterance.text).split()
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    seconds = (utterance.end - utterance.start) / ends[-1] if ends else 0.0
    return [
        Word(part, utterance.start + (end - len(part)) * seconds, utterance.start + end * seconds, after=" ")
        for part, end in zip(parts, ends, strict=True)
    ]


def _grouped(words: Sequence[Word]) -> list[list[Word]]:
    """The words in cues: as few as fit, of about the same width, preferably ending where a sentence or a clause does."""
    wide = _widths(words)
    endings = [*map(_ending, words[:-1]), 0.0]

    line_end, lines = 0, []  # of a line that begins with each word, and is as long as may be
    for start in range(len(words)):
        line_end = max(line_end, start)
        while line_end < len(words) and wide(start, line_end + 1) <= LINE:
            line_end += 1
        lines.append(line_end)

    def fits(start: int, end: int) -> bool:
        return end <= lines[start] or (start < lines[start] and wide(lines[start], end) <= LINE)

    def cost(start: int, end: int) -> float:
        empty = max(0.0, 1 - wide(start, end) / (2 * LINE))
        return 1 + empty**2 + endings[end - 1]

    best, first_of = [0.0], [0]  # for each number of words: the cost of showing them, and the first word of the last cue
    for end in range(1, len(words) + 1):
        costs = {end - 1: best[end - 1] + cost(end - 1, end)}
        for start in range(end - 2, -1, -1):
            if words[end - 1].end - words[start].start > LONGEST or not fits(start, end):
                break
            costs[start] = best[start] + cost(start, end)
        first = min(costs, key=lambda start: costs[start])
        best.append(costs[first])
        first_of.append(first)
    groups, end = [], len(words)
    while end:
        groups.append(list(words[first_of[end] : end]))
        end = first_of[end]
    return groups[::-1]


def _ending(word: Word) -> float:
    """What it costs to end a cue with the word, unless it is the last one."""
    return 0.0 if _ENDS_SENTENCE.search(word.text) else 0.1 if _ENDS_CLAUSE.search(word.text) else 0.3


def _lines(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """One line if it is short enough, else two of about the same width."""
    wide = _widths(words)
    if wide(0, len(words)) <= LINE or len(words) == 1:
        return [tuple(words)]
    at = min(range(1, len(words)), key=lambda i: max(wide(0, i), wide(i, len(words))))
    return [tuple(words[:at]), tuple(words[at:])]


def _widths(words: Sequence[Word]) -> Callable[[int, int], int]:
    """A function: the width of the words from one number to the one before another, without what stands after the last."""
    alone = [width(word.text) for word in words]
    until = [0, *accumulate(width(word.text + word.after) for word in words)]
    return lambda start, end: until[end - 1] - until[start] + alone[end - 1]


def _srt(recording: Recording, *, by_word: bool = False) -> dict[str, str]:
    several = len(recording.speakers) > 1
    blocks = []
    for number, cue in enumerate(cues(recording, by_word=by_word), start=1):
        name = f"{_plain(on_one_line(cue.speaker))}: " if several and cue.speaker and cue.turn else ""
        times = f"{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}"
        blocks.append(f"{number}\n{times}\n{name}{_marked(cue, _plain)}\n\n")
    return {".words.srt" if by_word else ".srt": "".join(blocks)}


def _vtt(recording: Recording, *, by_word: bool = False) -> dict[str, str]:
    blocks = ["WEBVTT\n\n"]
    for cue in cues(recording, by_word=by_word):
        text = _marked(cue, _escaped)
        if cue.speaker:
            text = f"<v {_escaped(on_one_line(cue.speaker))}>{text}</v>"
        blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n\n")
    return {".words.vtt" if by_word else ".vtt": "".join(blocks)}


def _marked(cue: Cue, safe: Callable[[str], str]) -> str:
    """The lines of the cue, with runs of emphasised words in bold."""
    return "\n".join("".join(_runs(line, safe)).rstrip() for line in cue.lines)


def _runs(line: Sequence[Word], safe: Callable[[str], str]) -> Iterator[str]:
    for emphasised, group in groupby(line, key=lambda word: word.emphasised):
        words = list(group)
        text = safe("".join(word.text + word.after for word in words[:-1]) + words[-1].text)
        yield (f"<b>{text}</b>" if emphasised else text) + words[-1].after


def _plain(text: str) -> str:
    """Text that no player takes for a tag or a time. SubRip has no escapes, so an invisible joiner parts what would be one."""
    return re.sub(r"<(?=[/a-zA-Z])|\{(?=\\)|-(?=->)", "\\g<0>\u2060", text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    total, thousandths = divmod(milliseconds(seconds), 1000)
    minutes, whole = divmod(total, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{whole:02d}{point}{thousandths:03d}"


FORMATS = {
    "srt": PerRecording(("text",), _srt),
    "srt-words": PerRecording(("text",), partial(_srt, by_word=True)),
    "vtt": PerRecording(("text",), _vtt),
    "vtt-words": PerRecording(("text",), partial(_vtt, by_word=True)),
}

"""RTTM: who speaks when, a line for each utterance (NIST's Rich Transcription Time Marked, type SPEAKER)."""

from __future__ import annotations

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording
from msfser_cli.exports.text import as_one_word


def render(recording: Recording) -> dict[str, str]:
    """Ten fields a line. A speaker who is unknown is `unknown`. A blank in a name becomes `_`."""
    name = as_one_word(recording.stem)
    return {
        ".rttm": "".join(
            f"SPEAKER {name} {(u.channel or 0) + 1} {u.start:.3f} {u.end - u.start:.3f} <NA> <NA> "
            f"{as_one_word(u.speaker or 'unknown')} <NA> <NA>\n"
            for u in recording.utterances
        )
    }


FORMATS = {"rttm": PerRecording((), render)}

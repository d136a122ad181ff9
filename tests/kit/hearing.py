"""Transcribers on single clips."""

from __future__ import annotations

from collections.abc import Sequence

from msfser_cli.backends import Transcriber, Transcript
from msfser_cli.store.audio import Samples


def heard(transcriber: Transcriber, samples: Samples, language: str | None) -> Transcript:
    [transcript] = transcriber.transcribe([samples], [language])
    return transcript


def aligned(transcriber: Transcriber, samples: Samples, text: str, language: str | None) -> Transcript:
    [transcript] = transcriber.align([samples], [text], [language])
    return transcript


class OneByOne:
    """A transcriber that hears one clip at a time."""

    def hear(self, samples: Samples, language: str | None) -> Transcript:
        raise NotImplementedError

    def time(self, samples: Samples, text: str, language: str | None) -> Transcript:
        raise NotImplementedError

    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        return [self.hear(*clip) for clip in zip(clips, languages, strict=True)]

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        return [self.time(*clip) for clip in zip(clips, texts, languages, strict=True)]

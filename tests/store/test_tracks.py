"""Of several audio tracks, the programme is heard: the default, and nothing that speaks about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from av.stream import Disposition

from kit.audio_corpus import encoded, likeness, voice
from kit.sounds import RATE
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.process

SPEECH = voice(44_100, 3.0)[:, None]
About = tuple[Disposition, dict[str, str]]
NONE, DEFAULT = Disposition(0), Disposition.default


def heard(path: Path, container: str, codec: str, *about: About) -> tuple[int, list[str]]:
    """Which of two tracks (the second is the first backwards) was heard, and the notes."""
    path.write_bytes(encoded(container, codec, streams=2, video="mpeg4", about=about)(SPEECH, 44_100))
    audio = decode(path)
    forwards = voice(RATE, 3.0)
    alike = [likeness(audio.samples[:], sound) for sound in (forwards, forwards[::-1])]
    assert max(alike) > 0.98 > 0.7 > min(alike)
    return alike.index(max(alike)), audio.notes


@pytest.mark.parametrize(("first", "second", "expected", "described"), [
    ((NONE, {}), (NONE, {}), 0, ""),
    ((NONE, {}), (DEFAULT, {"language": "eng"}), 1, " (default, eng)"),
    ((Disposition.comment, {}), (DEFAULT, {}), 1, " (default)"),
    ((Disposition.comment | DEFAULT, {}), (NONE, {}), 1, ""),
    ((Disposition.visual_impaired, {}), (NONE, {}), 1, ""),
    ((Disposition.hearing_impaired | DEFAULT, {}), (NONE, {}), 1, ""),
    ((Disposition.descriptions, {}), (Disposition.comment, {}), 0, ""),
    ((DEFAULT, {"title": "Director's Commentary"}), (NONE, {"title": "Stereo"}), 1, " (Stereo)"),
    ((DEFAULT, {"title": "English AD"}), (NONE, {}), 1, ""),
    ((DEFAULT, {"title": "Audiodeskription"}), (NONE, {}), 1, ""),
    ((DEFAULT, {"title": "Adagio"}), (NONE, {}), 0, " (default, Adagio)"),
])  # fmt: skip
def test_the_track_that_is_heard(
    tmp_path: Path, first: About, second: About, expected: int, described: str
) -> None:
    track, notes = heard(tmp_path / "a.mkv", "matroska", "aac", first, second)
    assert track == expected
    assert notes == [f"msfser used number {expected}{described} of its 2 audio tracks"]


def test_two_tracks_of_an_mp4(tmp_path: Path) -> None:
    assert heard(tmp_path / "a.mp4", "mp4", "aac", (NONE, {}), (DEFAULT, {"language": "deu"}))[0] == 1
    # MP4 has a code for a language that nobody named.
    _, notes = heard(tmp_path / "b.mp4", "mp4", "aac", (DEFAULT, {}), (NONE, {}))
    assert notes == ["msfser used number 0 (default) of its 2 audio tracks"]


@pytest.mark.parametrize("track", [0, 1])
def test_a_track_by_its_number(tmp_path: Path, track: int) -> None:
    (tmp_path / "a.mka").write_bytes(encoded("matroska", "flac", streams=2)(SPEECH, 44_100))
    audio = decode(tmp_path / "a.mka", audio_track=track)
    assert likeness(audio.samples[:], voice(RATE, 3.0)[:: 1 - 2 * track]) > 0.98


def test_a_track_that_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "two").write_bytes(encoded("matroska", "flac", streams=2)(SPEECH, 44_100))
    (tmp_path / "one").write_bytes(encoded("matroska", "flac")(SPEECH, 44_100))
    with pytest.raises(RecordingError, match="there is no audio track 2: it has 2 audio tracks, numbered from 0"):
        decode(tmp_path / "two", audio_track=2)
    with pytest.raises(RecordingError, match="there is no audio track 1: it has one audio track, number 0"):
        decode(tmp_path / "one", audio_track=1)

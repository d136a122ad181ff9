"""Sound is at the times of its container, and what is lost is silence of its length, or the recording fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kit.audio_corpus import FORMATS, encoded, id3v2, likeness, voice
from kit.sounds import RATE
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import Audio, decode

pytestmark = pytest.mark.process

SPEECH = voice(44_100, 12.0)[:, None]
EXPECTED = voice(RATE, 12.0)
NEAR = 0.09
"""Seconds: a frame or two, by which encoders are late."""


def shift_of(audio: Audio, start: float, end: float) -> float:
    """By how many seconds the sound is later than `EXPECTED`, of which the stretch from `start` to `end` is looked for."""
    wanted, samples = EXPECTED[round(start * RATE) : round(end * RATE)], audio.samples[:]
    size = 1 << (len(samples) + len(wanted)).bit_length()
    product = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(wanted, size)), size)
    place = int(product.argmax())
    return (place if place < len(samples) else place - size) / RATE - start


@pytest.mark.parametrize(("name", "codec", "video"), [
    ("matroska", "aac", "mpeg4"), ("matroska", "flac", "mpeg4"), ("mov", "aac", "mpeg4"), ("mp4", "aac", "mpeg4"),
    ("webm", "libopus", "vp8"), ("mpegts", "mp2", "mpeg4"), ("mpegts", "aac", "mpeg4"), ("flv", "aac", "flv"),
    ("asf", "wmav2", "mpeg4"),
])  # fmt: skip
def test_sound_that_starts_late_in_a_video(tmp_path: Path, name: str, codec: str, video: str) -> None:
    rate = 48_000 if codec == "libopus" else 44_100
    (tmp_path / "a").write_bytes(encoded(name, codec, video=video, late=4.0, bits=96_000)(voice(rate, 12.0)[:, None], rate))
    audio = decode(tmp_path / "a")
    assert shift_of(audio, 0, 12) == pytest.approx(4.0, abs=NEAR)
    assert not audio.samples[: round(3.8 * RATE)].any()
    assert audio.duration == pytest.approx(16.0, abs=0.15)
    [note] = audio.notes
    assert note.startswith(("its sound starts at 3.9", "its sound starts at 4.0"))


@pytest.mark.parametrize("name", ["mp3", "mp3vbr", "mp3bare", "m4a", "aac", "vorbis", "opus", "webm", "mka", "wma", "ts", "flac"])
def test_sound_alone_starts_at_0(tmp_path: Path, name: str) -> None:
    form = FORMATS[name]
    (tmp_path / "a").write_bytes(form.make(voice(form.rate, 12.0)[:, None], form.rate))
    audio = decode(tmp_path / "a")
    assert shift_of(audio, 0, 12) == pytest.approx(0, abs=NEAR)
    assert audio.notes == []


def test_a_cover_is_no_video_for_which_sound_is_late(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(id3v2(9_000) + FORMATS["mp3"].make(SPEECH, 44_100))
    assert shift_of(decode(tmp_path / "a.mp3"), 0, 12) == pytest.approx(0, abs=NEAR)


@pytest.mark.parametrize(("name", "codec"), [("mpegts", "aac"), ("mpegts", "mp2"), ("matroska", "aac"), ("mp4", "aac")])
def test_a_gap_in_the_times_is_silence(tmp_path: Path, name: str, codec: str) -> None:
    (tmp_path / "a").write_bytes(encoded(name, codec, pause=(5.0, 60.0))(SPEECH, 44_100))
    audio = decode(tmp_path / "a")
    assert audio.duration == pytest.approx(72.0, abs=0.15)
    assert shift_of(audio, 0, 4.5) == pytest.approx(0, abs=NEAR)
    assert shift_of(audio, 5.5, 12) == pytest.approx(60, abs=NEAR)
    assert [note.partition(" s ")[2] for note in audio.notes] == ["of its sound are missing; silence replaces them"]


@pytest.mark.parametrize(("pause", "seconds"), [((5.0, 100_000.0), 12.0), ((5.0, -4.0), 12.0)])
def test_a_leap_that_makes_no_sense_is_none(tmp_path: Path, pause: tuple[float, float], seconds: float) -> None:
    """Two recordings of the same broadcast, joined."""
    one = encoded("mpegts", "mp2")(SPEECH[: 5 * 44_100], 44_100)
    other = encoded("mpegts", "mp2", late=5.0 + pause[1])(SPEECH[5 * 44_100 :], 44_100)
    (tmp_path / "a.ts").write_bytes(one + other)
    audio = decode(tmp_path / "a.ts")
    assert audio.duration == pytest.approx(seconds, abs=0.3)
    assert audio.notes == ["its timestamps jump once, as in joined files"]


def test_times_that_wrap(tmp_path: Path) -> None:
    """The clock of MPEG-TS has 33 bits: after 26.5 hours it begins anew."""
    (tmp_path / "a.ts").write_bytes(encoded("mpegts", "mp2", late=(1 << 33) / 90_000 - 8.0)(SPEECH, 44_100))
    audio = decode(tmp_path / "a.ts")
    assert audio.duration == pytest.approx(12.0, abs=0.15)
    assert shift_of(audio, 0, 12) == pytest.approx(0, abs=NEAR)


def holed(content: bytes, start: float, end: float, *, zeros: bool = True) -> bytes:
    """The file with other bytes from one share of it to another."""
    first, last = round(len(content) * start), round(len(content) * end)
    hole = bytes(last - first) if zeros else np.random.default_rng(1).bytes(last - first)
    return content[:first] + hole + content[last:]


BARE = {
    "mp3": encoded("mp3", "libmp3lame", bits=64_000), "mp3vbr": FORMATS["mp3vbr"].make,
    "mp3bare": encoded("mp3", "libmp3lame", bits=64_000, write_xing="0", id3v2_version="0"), "ac3": encoded("ac3", "ac3"),
    "mp2": encoded("mp2", "mp2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "noise"])
def test_a_hole_is_silence_of_its_length(tmp_path: Path, name: str, zeros: bool) -> None:
    (tmp_path / "a").write_bytes(holed(BARE[name](SPEECH, 44_100), 0.45, 0.7, zeros=zeros))
    audio = decode(tmp_path / "a")
    near = 0.15 if zeros else 0.3  # noise holds something like the head of a frame now and then
    assert audio.duration == pytest.approx(12.0, abs=near)
    assert shift_of(audio, 0, 5) == pytest.approx(0, abs=NEAR)
    assert shift_of(audio, 9, 12) == pytest.approx(0, abs=near)
    damaged, missing = audio.notes
    assert "damaged packet" in damaged
    assert float(missing.partition(" s of its sound are missing")[0]) == pytest.approx(3.0, abs=0.7)


@pytest.mark.parametrize("name", ["mp3", "mp3bare", "ac3"])
@pytest.mark.parametrize(("start", "end"), [(0.002, 0.25), (0.3, 0.33), (0.75, 1.0)])
def test_a_hole_at_either_end_and_a_small_one(tmp_path: Path, name: str, start: float, end: float) -> None:
    (tmp_path / "a").write_bytes(holed(BARE[name](SPEECH, 44_100), start, end))
    audio = decode(tmp_path / "a")
    assert audio.duration == pytest.approx(12.0, abs=0.15)
    assert shift_of(audio, *(6, 8)) == pytest.approx(0, abs=NEAR)
    assert audio.notes


@pytest.mark.parametrize("name", ["m4a", "wav16", "ts", "opus", "vorbis", "tta"])
def test_a_hole_in_a_format_that_states_its_times(tmp_path: Path, name: str) -> None:
    form = FORMATS[name]
    (tmp_path / "a").write_bytes(holed(form.make(voice(form.rate, 12.0)[:, None], form.rate), 0.45, 0.7))
    audio = decode(tmp_path / "a")
    assert audio.duration == pytest.approx(12.0, abs=0.15)
    assert shift_of(audio, 9, 12) == pytest.approx(0, abs=NEAR)


@pytest.mark.parametrize("name", ["flac", "wavpack"])
def test_a_hole_in_a_format_that_states_its_length(tmp_path: Path, name: str) -> None:
    form = FORMATS[name]
    (tmp_path / "a").write_bytes(holed(form.make(voice(form.rate, 12.0)[:, None], form.rate), 0.45, 0.7))
    with pytest.raises(RecordingError, match="decode_error"):
        decode(tmp_path / "a")


def test_a_hole_whose_place_cannot_be_known_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.aac").write_bytes(holed(encoded("adts", "aac")(SPEECH, 44_100), 0.45, 0.7))
    with pytest.raises(RecordingError, match="decode_error: damaged: 3"):
        decode(tmp_path / "a.aac")


def test_tags_between_joined_files_are_no_hole(tmp_path: Path) -> None:
    one = id3v2(200_000) + BARE["mp3"](SPEECH, 44_100) + b"TAG" + bytes(125)
    (tmp_path / "a.mp3").write_bytes(one + one)
    audio = decode(tmp_path / "a.mp3")
    assert audio.duration == pytest.approx(24.0, abs=0.3)
    assert likeness(audio.clip(0, 12), EXPECTED) > 0.98
    assert not any("missing" in note for note in audio.notes)


def test_damage_is_counted(tmp_path: Path) -> None:
    content = bytearray(BARE["mp3bare"](SPEECH, 44_100))
    for place in (0.2, 0.5, 0.8):
        first = round(place * len(content))
        content[first : first + 900] = bytes(900)
    (tmp_path / "a.mp3").write_bytes(content)
    audio = decode(tmp_path / "a.mp3")
    [note] = [note for note in audio.notes if note.endswith(" damaged packets")]
    assert 3 <= int(note.split()[0]) <= 6  # a hole may take a frame to either side with it
    assert shift_of(audio, 11, 12) == pytest.approx(0, abs=NEAR)


def test_frames_that_are_not_there_although_the_header_counts_them(tmp_path: Path) -> None:
    content = bytearray(BARE["mp3"](SPEECH, 44_100))
    place = content.index(b"Info") + 7
    content[place] &= ~2  # it does not say how many bytes there are
    frames = bytes(content[place + 1 : place + 5])
    content[place + 1 : place + 9] = frames + content[place + 9 : place + 13]
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"cut short: \d\.\d\d of 12\.0\d s"):
        decode(tmp_path / "a.mp3")

"""What is heard of a recording's channels: the words of all of them, whatever way they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from kit.audio_corpus import encoded, likeness, voice
from kit.sounds import RATE, tone
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import Audio, decode
from msfser_cli.store.channels import weights

pytestmark = pytest.mark.process

SPEECH = voice(RATE, 4.0)
OTHER = voice(RATE, 9.0)[-len(SPEECH) :]
QUIET = np.zeros_like(SPEECH)
COPY = ["channel 1 is a copy of another and was left out"]
MADE_BY = {
    "flac": encoded("flac", "flac"), "ac3": encoded("ac3", "ac3"), "eac3": encoded("eac3", "eac3"), "m4a": encoded("ipod", "aac"),
    "mp3": encoded("mp3", "libmp3lame"), "wav": encoded("wav", "pcm_f32le"), "mka": encoded("matroska", "aac"),
}  # fmt: skip


def made(path: Path, *channels: np.ndarray, layout: str = "stereo", rate: int = 48_000) -> Path:
    """A file of the format that its suffix names, with these channels."""
    many = np.stack(channels, 1)
    samples = np.stack([np.interp(np.arange(len(many) * rate // RATE) * RATE / rate, np.arange(len(many)), c) for c in many.T], 1)
    path.write_bytes(MADE_BY[path.suffix[1:]](samples.astype(np.float32), rate, layout))
    return path


def level(audio: Audio) -> float:
    return float(np.sqrt(np.mean(np.square(audio.samples[:]))))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a", "mp3", "mka"])
@pytest.mark.parametrize("gain", [-1.0, -0.9, -0.5])
def test_channels_that_cancel_each_other_out(tmp_path: Path, suffix: str, gain: float) -> None:
    audio = decode(made(tmp_path / f"a.{suffix}", SPEECH, SPEECH * np.float32(gain)))
    assert likeness(audio.samples[:], SPEECH) > 0.98
    assert level(audio) == pytest.approx(float(np.sqrt(np.mean(np.square(SPEECH)))), rel=0.1)
    assert audio.notes == ["its channels cancel each other out; for 4.0 s, channel 0 replaces their mix"]


def test_a_part_of_a_recording_in_which_they_cancel(tmp_path: Path) -> None:
    long = voice(RATE, 12.0)
    right = long.copy()
    right[4 * RATE : 8 * RATE] *= -1
    audio = decode(made(tmp_path / "a.wav", long, right))
    np.testing.assert_allclose(audio.samples[800:-800], decode(made(tmp_path / "b.wav", long, long)).samples[800:-800], atol=0.02)
    assert audio.notes == ["its channels cancel each other out; for 4.0 s, channel 0 replaces their mix"]


@pytest.mark.parametrize("suffix", ["flac", "ac3", "eac3", "m4a"])
@pytest.mark.parametrize("inverted", [1, 2])
def test_one_channel_of_surround_sound_is_the_wrong_way_round(tmp_path: Path, suffix: str, inverted: int) -> None:
    front = [SPEECH, SPEECH, SPEECH if inverted == 2 else QUIET]
    front[inverted] = -SPEECH
    audio = decode(made(tmp_path / f"a.{suffix}", *front, QUIET, QUIET, QUIET, layout="5.1"))
    assert abs(likeness(audio.samples[:], SPEECH)) > 0.98 or abs(likeness(-audio.samples[:], SPEECH)) > 0.98
    assert audio.notes


@pytest.mark.parametrize("suffix", ["flac", "ac3", "eac3", "m4a"])
def test_dialogue_in_the_centre(tmp_path: Path, suffix: str) -> None:
    """Music in all others, the plain mean of which is 11 dB above the dialogue."""
    music = sum(tone(4.0, hz, 0.07) for hz in (220.0, 277.0, 330.0))
    audio = decode(made(tmp_path / f"a.{suffix}", music, music, SPEECH, music, music, music, layout="5.1"))
    expected = (SPEECH + (2 * 0.5**0.5 + 2 * 0.5) * music) / (1 + 2 * 0.5**0.5 + 2 * 0.5)
    assert likeness(audio.samples[:], expected) > 0.98
    assert audio.notes == []


def test_the_weights_are_those_of_the_standard() -> None:
    side = 0.5**0.5
    for layout, parts in {
        ("FC",): [1], ("FL", "FR"): [1, 1], ("FL", "FR", "FC", "LFE", "BL", "BR"): [side, side, 1, 0, 0.5, 0.5],
        ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"): [side, side, 1, 0, 0.5, 0.5, 0.5, 0.5],
        ("FL", "FR", "BL", "BR"): [side, side, 0.5, 0.5], ("NONE",) * 8: [1] * 8, ("LFE",): [1],
    }.items():  # fmt: skip
        np.testing.assert_allclose(weights(layout), np.array(parts) / sum(parts), rtol=1e-6)


def test_quad_and_seven_one(tmp_path: Path) -> None:
    for layout, channels in (("quad", 4), ("7.1", 8)):
        only_left = [SPEECH, *[QUIET] * (channels - 1)]
        audio = decode(made(tmp_path / "a.wav", *only_left, layout=layout))
        assert likeness(audio.samples[:], SPEECH) > 0.98
        assert audio.notes == []


def test_noise_of_the_two_channels_adds_up_as_ever(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((2, len(SPEECH))).astype(np.float32) * 0.1
    audio = decode(made(tmp_path / "a.wav", *noise, rate=RATE))
    np.testing.assert_allclose(audio.samples[2_000:-2_000], noise.mean(axis=0)[2_000:-2_000], atol=0.05)


def turns() -> tuple[np.ndarray, np.ndarray]:
    """Two who speak in turn, a channel each."""
    return np.concatenate([SPEECH, QUIET]), np.concatenate([QUIET, OTHER])


def test_two_speakers_in_two_channels_are_told(tmp_path: Path) -> None:
    hint = ["its channels 0 and 1 hold different sound; if each is one speaker's, use --channels split"]
    assert decode(made(tmp_path / "turns.mp3", *turns())).notes == hint
    syllables = np.repeat(np.random.default_rng(1).permutation([1.0, 0.02] * 10), len(SPEECH) // 20).astype(np.float32)
    one, other = SPEECH[: len(syllables)] * syllables, OTHER[: len(syllables)] * (1.02 - syllables)
    assert decode(made(tmp_path / "at-once.wav", one, other)).notes == hint


def test_one_speaker_in_two_channels_is_not(tmp_path: Path) -> None:
    late = np.concatenate([QUIET[:48], SPEECH[:-48]])  # another microphone, a metre away
    for name, right in (("same", SPEECH), ("softer", SPEECH * np.float32(0.3)), ("late", late), ("silent", QUIET)):
        assert decode(made(tmp_path / f"{name}.wav", SPEECH, right)).notes == []


def test_split_gives_each_channel(tmp_path: Path) -> None:
    audio = decode(made(tmp_path / "a.flac", *turns()), channels="split")
    assert [part.channel for part in audio.parts] == [0, 1]
    for part, expected in zip(audio.parts, turns(), strict=True):
        assert likeness(part.samples[:], expected) > 0.99
        assert audio.of_channel(part.channel) is part
    with pytest.raises(RecordingError, match="channel 2"):
        audio.of_channel(2)


@pytest.mark.parametrize(("right", "note"), [
    (SPEECH, COPY), (-SPEECH, COPY), (SPEECH * np.float32(0.2), COPY), (QUIET, []),
])  # fmt: skip
def test_split_hears_nothing_twice(tmp_path: Path, right: np.ndarray, note: list[str]) -> None:
    audio = decode(made(tmp_path / "a.flac", SPEECH, right), channels="split")
    assert [part.channel for part in audio.parts] == [0]
    assert audio.notes == note


@pytest.mark.parametrize(("gain", "note"), [
    (0.2, ["its channels 0 and 1 share sound; speech that both picked up has rows in both"]), (0.01, []), (0.0, []),
])  # fmt: skip
def test_split_tells_of_crosstalk(tmp_path: Path, gain: float, note: list[str]) -> None:
    one, other = turns()
    path = made(tmp_path / "a.flac", one + np.float32(gain) * other, other + np.float32(gain) * one)
    audio = decode(path, channels="split")
    assert [part.channel for part in audio.parts] == [0, 1]
    assert audio.notes == note


def test_split_of_one_channel_and_of_silence(tmp_path: Path) -> None:
    sf.write(tmp_path / "mono.wav", SPEECH, RATE)
    sf.write(tmp_path / "silent.wav", np.zeros((RATE, 2)), RATE)
    for name in ("mono.wav", "silent.wav"):
        audio = decode(tmp_path / name, channels="split")
        assert ([part.channel for part in audio.parts], audio.notes) == ([0], [])


def test_one_channel_by_its_number(tmp_path: Path) -> None:
    path = made(tmp_path / "a.flac", SPEECH, OTHER)
    for number, expected in enumerate((SPEECH, OTHER)):
        audio = decode(path, channels=str(number))
        assert likeness(audio.samples[:], expected) > 0.99
        assert (audio.channel, audio.notes) == (number, [])
    with pytest.raises(RecordingError, match="no_channel: there is no channel 2: it has 2 channels, numbered from 0"):
        decode(path, channels="2")


def test_an_offset_of_one_channel(tmp_path: Path) -> None:
    audio: Any = decode(made(tmp_path / "a.wav", SPEECH, SPEECH + np.float32(0.3)))
    assert likeness(audio.samples[:], SPEECH) > 0.99
    assert audio.notes == []

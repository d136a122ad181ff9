from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from kit.decoders import end_decoders
from msfser_cli.errors import RecordingError
from msfser_cli.store import decoder
from msfser_cli.store.audio import AUDIO_SUFFIXES, Audio, decode, file_sha256, is_audio_name

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent
SECONDS = 2.0
INNER = slice(1_600, -1_600)
"""The ends of a tone, where it breaks off, have other frequencies than its own."""


def tone(rate: int, seconds: float = SECONDS, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """float32 [n], a sine."""
    return (level * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def encode(path: Path, codec: str, rate: int, channels: int = 2, *, container: str | None = None, video: bool = False) -> Path:
    """A file of the tone, made by PyAV; with a black picture if `video`."""
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w", format=container) as out:
        # every stream is added before the first packet goes out
        sound = out.add_stream(codec, rate=rate, layout=layout) if codec else None
        if video:
            picture = out.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
            black = np.zeros((64, 64, 3), np.uint8)
            for _ in range(int(10 * SECONDS)):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
            out.mux(picture.encode())
        if sound:
            frame = av.AudioFrame.from_ndarray(np.stack([tone(rate)] * channels), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            size = sound.codec_context.frame_size or None
            resampler = av.AudioResampler(format=sound.format, layout=layout, rate=rate, frame_size=size)
            for part in resampler.resample(frame) + resampler.resample(None):
                out.mux(sound.encode(part))
            out.mux(sound.encode())
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        decode(path)
    assert str(path) not in caught.value.detail
    return caught.value.reason


CODECS = [
    ("a.wav", "pcm_s16le", 44_100),
    ("a.wav", "pcm_s24le", 8_000),
    ("a.wav", "pcm_f32le", 16_000),
    ("a.wav", "pcm_mulaw", 8_000),
    ("a.aiff", "pcm_s16be", 22_050),
    ("a.flac", "flac", 48_000),
    ("a.mp3", "mp3", 44_100),
    ("a.opus", "libopus", 48_000),
    ("a.webm", "libopus", 48_000),
    ("a.m4a", "aac", 44_100),
    ("a.mka", "ac3", 48_000),
    ("a.au", "pcm_s16be", 11_025),
]


@pytest.mark.parametrize(("name", "codec", "rate"), CODECS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_is_the_same_sound(tmp_path: Path, name: str, codec: str, rate: int, channels: int) -> None:
    samples = decode(encode(tmp_path / name, codec, rate, channels)).samples[:]
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) / 16_000 - SECONDS) < 0.05
    middle = samples[8_000:24_000]
    assert abs(np.abs(middle).max() - 0.5) < 0.05
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440


def test_vorbis(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.ogg", tone(44_100), 44_100)
    assert abs(decode(tmp_path / "a.ogg").duration - SECONDS) < 0.01


@pytest.mark.parametrize(("name", "container"), [("a.mp4", "mp4"), ("a.mkv", "matroska"), ("a.avi", "avi")])
def test_the_sound_of_a_video(tmp_path: Path, name: str, container: str) -> None:
    codec = "mp3" if container == "avi" else "aac"
    assert abs(decode(encode(tmp_path / name, codec, 44_100, container=container, video=True)).duration - SECONDS) < 0.1


def test_what_lies_above_the_rumble_is_kept(tmp_path: Path) -> None:
    expected = sum(tone(16_000, hz=hz, level=0.1) for hz in (70.0, 120.0, 440.0, 7_900.0))
    sf.write(tmp_path / "a.wav", expected, 16_000, subtype="FLOAT")
    found = decode(tmp_path / "a.wav").samples[:]
    np.testing.assert_allclose(found[INNER], expected[INNER], atol=1e-3)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("seconds", [0.05, 1.0, 3.337])
def test_resampling_keeps_the_whole_length(tmp_path: Path, rate: int, seconds: float) -> None:
    sf.write(tmp_path / "a.wav", tone(rate, seconds, 300), rate)
    assert abs(decode(tmp_path / "a.wav").duration - int(rate * seconds) / rate) <= 2 / 16_000


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(16_000), tone(16_000, hz=1_000, level=0.9)
    sf.write(tmp_path / "a.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav").samples[INNER], ((left + right) / 2)[INNER], atol=1e-3)


@pytest.mark.parametrize("channels", [3, 6, 8, 9, 16, 32])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_many_channels_without_names(tmp_path: Path, channels: int, rate: int) -> None:
    many = np.stack([tone(rate, level=1.0)] + [tone(rate, level=0.0)] * (channels - 1), 1)
    sf.write(tmp_path / "a.wav", many, rate, subtype="FLOAT")
    samples = decode(tmp_path / "a.wav").samples[INNER]
    np.testing.assert_allclose(samples, tone(16_000, level=1.0)[INNER] / channels, atol=2e-3)


def test_levels_are_left_as_they_are(tmp_path: Path) -> None:
    loud = tone(16_000, level=10.0)
    sf.write(tmp_path / "a.wav", loud, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav").samples[INNER], loud[INNER], rtol=1e-3, atol=1e-2)


def test_silence_and_a_single_sample_are_sound(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000)
    assert not decode(tmp_path / "a.wav").samples[:].any()
    sf.write(tmp_path / "b.wav", np.zeros(1, np.float32), 16_000)
    assert len(decode(tmp_path / "b.wav").samples[:]) == 1


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    for name in ("a.wav", "noext", "-rf.mp3", "http:x.mp3", "a\nb.txt", "ünï 語.xyz", os.fsdecode(b"\xff.wav")):
        target = encode(tmp_path / "a.mp3", "mp3", 44_100).rename(tmp_path / name)
        assert abs(decode(target).duration - SECONDS) < 0.1


def test_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    for name in ("gone.wav", "file/a.wav", "broken", "nul\0.wav"):
        assert reason_of(tmp_path / name) == "missing"


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    names = ("folder.wav", "pipe.wav", "loop.wav", "/dev/zero", "x" * 300)
    for path in (tmp_path / name for name in names):
        assert reason_of(path) == "unreadable"
        with pytest.raises(RecordingError, match="unreadable"):
            file_sha256(path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert reason_of(tmp_path / "a.wav") == "empty"


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>" + b"<p>gone</p>" * 200,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        np.random.default_rng(0).bytes(50_000),
        bytes(50_000),
        b"x",
        b"#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/a.mp3\n#EXTINF:3,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    ],
    ids=["html", "lfs", "noise", "zeros", "byte", "playlist"],
)
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.m3u8"])
def test_not_audio(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason_of(tmp_path / name) == "not_audio"


@pytest.mark.parametrize(
    "playlist",
    ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"],
)
@pytest.mark.parametrize("nearby", [True, False])
def test_a_playlist_leads_nowhere(tmp_path: Path, playlist: str, nearby: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    target = encode(tmp_path / "a.mp3", "mp3", 44_100)
    (tmp_path / "list.mp3").write_text(playlist.format(target.name if nearby else target))
    end_decoders()
    monkeypatch.chdir(tmp_path)  # where a decoder would look for what lies nearby
    assert reason_of(tmp_path / "list.mp3") == "not_audio"
    end_decoders()


def test_no_audio_stream(tmp_path: Path) -> None:
    assert reason_of(encode(tmp_path / "a.mp4", "", 0, video=True)) == "no_audio_stream"


def test_no_samples(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    assert reason_of(tmp_path / "a.wav") == "no_samples"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_samples(tmp_path: Path, bad: float) -> None:
    samples = tone(44_100)
    samples[30_000] = bad
    sf.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    assert reason_of(tmp_path / "a.wav") == "bad_samples"


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.aiff", "pcm_s16be")])
def test_a_file_that_was_cut_is_noticed_where_its_header_tells(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec, 44_100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason_of(path) == "decode_error"


def test_an_mp4_that_was_cut_is_no_container(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac", 44_100)
    path.write_bytes(path.read_bytes()[:-2_000])
    assert reason_of(path) in ("not_audio", "decode_error")


def test_a_wav_whose_length_was_not_known_when_it_was_written(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(16_000), 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert decode(tmp_path / "a.wav").duration == SECONDS


def test_a_damaged_packet_does_not_cost_the_recording(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", "flac", 44_100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert decode(path).duration > SECONDS - 0.3


def test_a_forged_length_allocates_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", "flac", 44_100)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the upper bits of STREAMINFO's number of samples: 64 thousand million
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert reason_of(path) == "decode_error"


def test_more_than_the_longest_duration_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MAX_DURATION_S", 1)
    sf.write(tmp_path / "a.wav", tone(16_000), 16_000)
    assert reason_of(tmp_path / "a.wav") == "too_long"


def test_nothing_is_said_on_the_way(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "mp3", 44_100)
    content = bytearray(path.read_bytes())
    content[8_000:9_000] = bytes(range(250)) * 4
    path.write_bytes(content)
    script = "import sys, pathlib; from msfser_cli.store.audio import decode; decode(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == (hashlib.sha256(content).hexdigest(), len(content))
    with pytest.raises(RecordingError, match="missing"):
        file_sha256(tmp_path / "b")


def test_no_file_is_left_open(tmp_path: Path) -> None:
    good = encode(tmp_path / "a.mp3", "mp3", 44_100)
    (tmp_path / "bad.mp3").write_bytes(b"no" * 1000)
    (tmp_path / "folder").mkdir()
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    decode(good)  # from now on there is a decoder
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        reason_of(tmp_path / "bad.mp3")
        reason_of(tmp_path / "folder")
        decode(good)
    assert len(list(descriptors.iterdir())) == before


def test_names_that_a_scan_takes() -> None:
    assert all(is_audio_name(Path(f"x/a{suffix}")) and suffix == suffix.lower() for suffix in AUDIO_SUFFIXES)
    assert is_audio_name(Path("A.WAV"))
    for name in ("a.txt", "a", "wav", ".wav", "._a.wav", "a.wav.part", "a.csv", "a.parquet", "a.lab", "a.TextGrid"):
        assert not is_audio_name(Path(name))


def test_clips_and_derived_values() -> None:
    sound = Audio(np.arange(32_000, dtype=np.float32))
    assert sound.duration == 2.0
    assert sound.clip(0.5, 1.0)[0] == 8_000
    assert len(sound.clip(0.5, 1.0)) == 8_000
    calls: list[int] = []

    def compute(samples: np.ndarray) -> float:
        calls.append(1)
        return float(samples.sum())

    assert sound.derived("sum", compute) == sound.derived("sum", compute)
    assert len(calls) == 1

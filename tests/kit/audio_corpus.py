"""A corpus of recordings, whole and damaged in every way that has a name, made here and nowhere downloaded.

`build(folder)` writes the files that EXPECTED.csv has a line for: `<format>-<condition>` for each format and each condition that
it can have, and the oddities, which are named for what is odd. Nothing is random but by a fixed seed.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile as sf
from av.stream import Disposition

SECONDS = 2.0

# Sound


@cache
def voice(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """float32 [n]: something like speech, whose syllables tell every place in it from every other; nothing above 3 kHz."""
    time = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / rate
    formant = 500 + 250 * np.sin(2 * np.pi * 1.3 * time + 1)
    harmonics = sum(np.sin(k * phase) * np.exp(-(((k * 120 - formant) / 500) ** 2)) for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * (3 + np.sin(time)) * time), 0, 1)
    sound = np.asarray(harmonics * syllables)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def likeness(samples: np.ndarray, original: np.ndarray, shift: int = 2_400) -> float:
    """The correlation of the two at the shift, of at most so many samples, at which it is greatest."""
    size = 1 << (len(samples) + len(original)).bit_length()
    product = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(original, size)), size)
    norm = float(np.linalg.norm(samples)) * float(np.linalg.norm(original))
    return float(np.concatenate([product[: shift + 1], product[-shift:]]).max() / norm) if norm else 0.0


# Formats


def _written(suffix: str, format: str, subtype: str, **options: Any) -> Callable[[np.ndarray, int], bytes]:
    """What libsndfile makes of float32 [n, channels]."""

    def make(samples: np.ndarray, rate: int) -> bytes:
        file = io.BytesIO()
        sf.write(file, samples, rate, format=format, subtype=subtype, **options)
        return file.getvalue()

    return make


class _Pipe:
    """A place that cannot be written twice, as a live recording's."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, block: Any) -> int:
        self.content += bytes(block)
        return len(bytes(block))


def _paused(packets: list[av.Packet], start: float, seconds: float) -> list[av.Packet]:
    """Packets from `start` on are so many seconds later."""
    for packet in packets:
        if packet.pts * packet.time_base >= start:
            packet.pts += round(seconds / packet.time_base)
            packet.dts += round(seconds / packet.time_base)
    return packets


def encoded(
    container: str, codec: str, *, video: str = "", live: bool = False, streams: int = 1, bits: int = 0, late: float = 0.0,
    pause: tuple[float, float] = (np.inf, 0.0), about: Sequence[tuple[Disposition, dict[str, str]]] = (), **options: str,
) -> Callable[..., bytes]:  # fmt: skip
    """What FFmpeg makes of float32 [n, channels]; a second stream is the first one backwards.

    late: the seconds at which the sound begins, beside a `video` of that codec, which begins at 0. pause: when the sound pauses,
    and for how long. about: the dispositions of each stream, and what its metadata says.
    """

    def make(samples: np.ndarray, rate: int, layout: str = "") -> bytes:
        file: Any = _Pipe() if live else io.BytesIO()
        layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[samples.shape[1]]
        with av.open(file, "w", format=container, options=options) as out:
            sounds = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
            for sound in sounds if bits else ():
                sound.bit_rate = bits
            for sound, (disposition, metadata) in zip(sounds, about, strict=False):
                sound.disposition = disposition
                sound.metadata.update(metadata)
            if video:
                picture = out.add_stream(video, rate=10, width=32, height=32, pix_fmt="yuv420p")
                for number in range(round(10 * len(samples) / rate)):
                    image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
                    image.pts, image.time_base = number, Fraction(1, 10)
                    out.mux(picture.encode(image))
                out.mux(picture.encode())
            for backwards, sound in enumerate(sounds):
                # interleaved: PyAV reads past the planes of a frame with eight channels
                interleaved = np.ascontiguousarray(samples[:: 1 - 2 * backwards]).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
                frame.sample_rate, frame.pts = rate, 0
                size = sound.codec_context.frame_size or None
                resampler = av.AudioResampler(format=sound.format, layout=layout, rate=rate, frame_size=size)
                for part in resampler.resample(frame) + resampler.resample(None):
                    part.pts += round(rate * late)
                    out.mux(_paused(sound.encode(part), *pause))
                out.mux(_paused(sound.encode(), *pause))
        return bytes(file.content if live else file.getvalue())

    return make


@dataclass(frozen=True)
class Format:
    """How a format is made, at which rates and with how many channels at most, and the `more` and `less` of its forged length."""

    suffix: str
    make: Callable[[np.ndarray, int], bytes]
    rate: int = 16_000
    rates: tuple[int, ...] = ()
    channels: int = 1
    length: tuple[Callable[[bytes], int], str] | None = None
    """Where the header states the length, and its `struct` form."""


def _after(tag: bytes, distance: int = 0) -> Callable[[bytes], int]:
    return lambda content: content.index(tag) + len(tag) + distance


FORMATS = {
    "wav16": Format(".wav", _written(".wav", "WAV", "PCM_16"), 16_000, (8_000, 192_000), 8, (_after(b"data"), "<I")),
    "wav8": Format(".wav", _written(".wav", "WAV", "PCM_U8"), 22_050),
    "wav24": Format(".wav", _written(".wav", "WAV", "PCM_24"), 44_100, (8_000, 192_000), 8),
    "wavfloat": Format(".wav", _written(".wav", "WAV", "FLOAT"), 48_000, (192_000,), 8),
    "wavdouble": Format(".wav", _written(".wav", "WAV", "DOUBLE"), 16_000),
    "wavlaw": Format(".wav", _written(".wav", "WAV", "ULAW"), 8_000),
    "wavx": Format(".wav", _written(".wav", "WAVEX", "PCM_16"), 44_100, (192_000,), 8, (_after(b"data"), "<I")),
    "rifx": Format(".wav", _written(".wav", "WAV", "PCM_16", endian="BIG"), 16_000),
    "rf64": Format(".wav", _written(".wav", "RF64", "PCM_16"), 44_100, (), 1, (_after(b"ds64", 12), "<Q")),
    "w64": Format(".w64", _written(".w64", "W64", "PCM_16"), 44_100, (192_000,), 8),
    "aiff": Format(".aiff", _written(".aiff", "AIFF", "PCM_16"), 44_100, (192_000,), 8, (_after(b"COMM", 6), ">I")),
    "caf": Format(".caf", _written(".caf", "CAF", "PCM_16"), 44_100, (192_000,), 8),
    "au": Format(".au", _written(".au", "AU", "PCM_16"), 16_000, (8_000,), 8, (_after(b".snd", 4), ">I")),
    "flac": Format(".flac", _written(".flac", "FLAC", "PCM_16"), 44_100, (8_000, 192_000), 8, (lambda content: 22, ">I")),
    "mp3": Format(".mp3", encoded("mp3", "libmp3lame"), 44_100, (8_000,), 2, (_after(b"Info", 4), ">I")),
    "mp3vbr": Format(
        ".mp3", _written(".mp3", "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE"), 44_100, (), 2, (_after(b"Xing", 4), ">I")
    ),
    "mp3bare": Format(".mp3", encoded("mp3", "libmp3lame", write_xing="0", id3v2_version="0"), 44_100, (), 2),
    "vorbis": Format(".ogg", _written(".ogg", "OGG", "VORBIS"), 44_100, (8_000, 192_000), 8),
    "opus": Format(".opus", encoded("ogg", "libopus"), 48_000, (8_000,), 2),
    "oggflac": Format(".oga", encoded("ogg", "flac"), 44_100),
    "m4a": Format(".m4a", encoded("ipod", "aac"), 44_100, (8_000,), 8, (_after(b"mdhd", 16), ">I")),
    "m4afront": Format(".m4a", encoded("ipod", "aac", moov_size="4000"), 44_100),
    "m4afragments": Format(
        ".m4a", encoded("mp4", "aac", movflags="frag_every_frame+empty_moov", frag_duration="200000"), 44_100
    ),
    "alac": Format(".m4a", encoded("ipod", "alac"), 44_100),
    "aac": Format(".aac", encoded("adts", "aac"), 44_100, (8_000,)),
    "webm": Format(".webm", encoded("webm", "libopus"), 48_000, (), 2, (_after(b"\x44\x89\x88"), ">d")),
    "webmlive": Format(".webm", encoded("webm", "libopus", live=True), 48_000),
    "mkvvideo": Format(".mkv", encoded("matroska", "aac", video="mpeg4"), 44_100),
    "mka": Format(".mka", encoded("matroska", "ac3"), 48_000, (), 6),
    "mp4video": Format(".mp4", encoded("mp4", "aac", video="mpeg4"), 44_100),
    "avi": Format(".avi", encoded("avi", "libmp3lame", video="mpeg4"), 44_100),
    "ts": Format(".ts", encoded("mpegts", "aac", video="mpeg4"), 44_100),
    "amr": Format(".amr", encoded("amr", "libopencore_amrnb"), 8_000),
    "wma": Format(".wma", encoded("asf", "wmav2", bits=64_000), 44_100, (), 2),
    "wavpack": Format(".wv", encoded("wv", "wavpack"), 44_100, (), 2),
    "tta": Format(".tta", encoded("tta", "tta"), 44_100, (), 2),
}

# Conditions


def _sector(content: bytes) -> bytes:
    """512 bytes in the middle are lost, and others are in their place."""
    middle = len(content) // 2
    return content[:middle] + np.random.default_rng(5).bytes(512) + content[middle + 512 :]


def id3v2(size: int) -> bytes:
    """A tag with a picture of so many bytes."""
    picture = b"\0image/png\0\3\0" + b"\x89PNG" + np.random.default_rng(6).bytes(size)
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    whole = len(frame)
    return b"ID3\3\0\0" + bytes(whole >> shift & 127 for shift in (21, 14, 7, 0)) + frame


def _forged(form: Format, content: bytes, value: Callable[[float], float]) -> bytes:
    assert form.length
    place, kind = form.length[0](content), form.length[1]
    stated = value(struct.unpack_from(kind, content, place)[0])
    forged = struct.pack(kind, stated if kind == ">d" else int(stated))
    return content[:place] + forged + content[place + len(forged) :]


@cache
def sound(name: str) -> bytes:
    """The recording of this format with nothing wrong."""
    form = FORMATS[name]
    return form.make(voice(form.rate)[:, None], form.rate)


def _conditions(name: str, form: Format) -> Iterator[tuple[str, str, bytes]]:
    """Condition, suffix and content."""
    whole, suffix = sound(name), form.suffix
    yield "sound", suffix, whole
    yield "half", suffix, whole[: len(whole) // 2]
    yield "byte", suffix, whole[:-1]
    yield "header", suffix, whole[:100]
    yield "sector", suffix, _sector(whole)
    yield "junk", suffix, id3v2(3_000) + whole
    yield "name", ".mp3" if suffix != ".mp3" else ".wav", whole
    yield "tail", suffix, whole + b"TAG" + bytes(125)
    yield "silence", suffix, form.make(np.zeros((round(SECONDS * form.rate), 1), np.float32), form.rate)
    if name != "tta":  # its encoder aborts
        yield "one", suffix, form.make(voice(form.rate)[:1, None], form.rate)
    noise = np.random.default_rng(7).uniform(-1, 1, (round(SECONDS * form.rate), 1)).astype(np.float32)
    yield "noise", suffix, form.make(noise, form.rate)
    for rate in form.rates:
        yield f"{rate // 1000}k", suffix, form.make(voice(rate)[:, None], rate)
    if form.channels > 1:
        yield "channels", suffix, form.make(np.repeat(voice(form.rate)[:, None], form.channels, 1), form.rate)
    if form.length:
        yield "more", suffix, _forged(form, whole, lambda stated: 20 * stated)
        yield "less", suffix, _forged(form, whole, lambda stated: stated // 2)
    if name in ("wavfloat", "wavdouble"):
        for word, value in (("nan", np.nan), ("inf", np.inf)):
            samples = voice(form.rate)[:, None].copy()
            samples[len(samples) // 2] = value
            yield word, suffix, form.make(samples, form.rate)


# Oddities


def _patched(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def vbri(content: bytes) -> bytes:
    """The same MP3 with the header that Fraunhofer's encoder writes, in place of the one that LAME does."""
    frame = content.index(b"Info") - 21  # mono: 4 bytes of frame header, 17 of side information
    frames = struct.unpack(">I", content[frame + 29 : frame + 33])[0]
    header = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(content) - frame, frames, 1, 1, 2, frames) + bytes(80)
    return content[:frame] + content[frame : frame + 4] + bytes(32) + header + content[frame + 36 + len(header) :]


def _ogg_pages(content: bytes) -> list[bytes]:
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def _without_end_of_stream(content: bytes) -> bytes:
    """As Android and radio recorders leave it: whole pages, none of which is marked as the last."""
    *before, last = _ogg_pages(content)
    page = bytearray(last)
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(bytes(page)))
    return b"".join(before) + bytes(page)


def _with_granule(content: bytes, granule: int) -> bytes:
    *before, last = _ogg_pages(content)
    page = bytearray(last)
    page[6:14] = struct.pack("<q", granule)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(bytes(page)))
    return b"".join(before) + bytes(page)


def _ogg_checksum(page: bytes) -> int:
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


def _only_video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        picture = out.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for number in range(20):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
            out.mux(picture.encode(image))
        out.mux(picture.encode())
    return file.getvalue()


def _paused_mka() -> bytes:
    """A recording that was paused for a second after the first: the packets go on with later times."""
    file, whole = io.BytesIO(), FORMATS["mka"].make(voice(48_000)[:, None], 48_000)
    with av.open(io.BytesIO(whole)) as source, av.open(file, "w", format="matroska") as out:
        sound = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                late = packet.pts * packet.time_base >= 1
                packet.pts = packet.dts = packet.pts + (int(1 / packet.time_base) if late else 0)
                packet.stream = sound
                out.mux(packet)
    return file.getvalue()


def _streamed_wav(size: int) -> bytes:
    """As a program writes it that cannot go back to the header: with a size that means none."""
    content = sound("wav16")
    return _patched(_patched(content, 4, struct.pack("<I", size)), 40, struct.pack("<I", max(0, size - 36)))


@cache
def long_silence(hours: float) -> bytes:
    """So much silence in FLAC: a few hundred kilobytes a day."""
    # Made by repeating one frame, whose number is the only thing in it that changes.
    size, rate = 65_535, 16_000
    frames = int(hours * 3600 * rate) // size
    info = struct.pack(">HH", size, size) + bytes(6) + struct.pack(">Q", rate << 44 | 15 << 36 | frames * size) + bytes(16)
    head = b"fLaC\x80" + len(info).to_bytes(3, "big") + info
    return head + b"".join(_flac_frame(number, size) for number in range(frames))


def _flac_frame(number: int, size: int) -> bytes:
    coded = (
        bytes([number])
        if number < 0x80
        else bytes([0xC0 | number >> 6, 0x80 | number & 63])
        if number < 0x800
        else bytes([0xE0 | number >> 12, 0x80 | number >> 6 & 63, 0x80 | number & 63])
    )
    header = b"\xff\xf8\x75\x08" + coded + struct.pack(">H", size - 1)  # size in 16 bits, 16 kHz, mono, 16 bits
    header += bytes([_crc(header, 8, 0x07)])
    frame = header + b"\0\0\0"  # one subframe: constant, zero
    return frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")


def _crc(content: bytes, bits: int, polynomial: int) -> int:
    register = 0
    for byte in content:
        register ^= byte << bits - 8
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register >> bits - 1 else 0)) & (1 << bits) - 1
    return register


def _absurd_table(content: bytes, tag: bytes, number: int) -> bytes:
    """An MP4 one of whose sample tables claims to be long."""
    return _patched(content, content.index(tag) + (12 if tag == b"stsz" else 8), struct.pack(">I", number))


def _frames_of_no_size() -> bytes:
    """An MP4 whose packets are all empty."""
    content = sound("m4a")
    place = content.index(b"stsz") + 12
    count = struct.unpack_from(">I", content, place)[0]
    return _patched(content, place + 4, bytes(4 * count))


def _playlist(target: str) -> dict[str, bytes]:
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n",
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'.encode(),
        "mpd": f'<?xml version="1.0"?><MPD><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1"><BaseURL>{target}'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>".encode(),
    }


def _oddities(folder: Path) -> Iterator[tuple[str, bytes]]:
    yield "empty.wav", b""
    yield "page.mp3", b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>" + b"<p>gone</p>" * 200
    yield "noise.mp3", np.random.default_rng(0).bytes(50_000)
    yield "zeros.wav", bytes(50_000)
    yield "lfs.flac", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    for kind, content in _playlist(str(folder / "wav16-sound.wav")).items():
        yield f"list-{kind}.mp3", content
    for kind, content in _playlist("http://127.0.0.1:9/a.mp3").items():
        yield f"net-{kind}.mp3", content
    yield "video-only.mp4", _only_video()
    yield "hour.flac", long_silence(1)
    # the 36 bits of STREAMINFO's number of samples
    flac = sound("flac")
    yield "forged.flac", _patched(flac, 21, bytes([flac[21] | 15]) + b"\xff\xff\xff\xff")
    yield "unknown.flac", _patched(flac, 21, bytes([flac[21] & 0xF0]) + bytes(4))
    for tag in (b"stsz", b"stts", b"stsc", b"stco"):
        yield f"absurd-{tag.decode()}.m4a", _absurd_table(sound("m4a"), tag, 0x0FFFFFFF)
    yield "zero-frames.m4a", _frames_of_no_size()
    for name in ("vorbis", "opus"):
        content, suffix = sound(name), FORMATS[name].suffix
        yield f"granule-{name}{suffix}", _with_granule(content, 1 << 62)
        yield f"granule-minus-{name}{suffix}", _with_granule(content, -5)
        yield f"endless-{name}{suffix}", _without_end_of_stream(content)
        yield f"pages-{name}{suffix}", b"".join(_ogg_pages(content)[:-1])
        yield f"chained-{name}{suffix}", content + content
    yield "chained-rates.ogg", sound("vorbis") + FORMATS["vorbis"].make(voice(16_000)[:, None], 16_000)
    two = encoded("matroska", "flac", streams=2)
    yield "two-streams.mka", two(voice(44_100)[:, None], 44_100)
    adts = sound("aac")
    yield "rates.aac", adts + FORMATS["aac"].make(voice(16_000)[:, None], 16_000)
    yield "layouts.aac", adts + FORMATS["aac"].make(np.repeat(voice(44_100)[:, None], 2, 1), 44_100)
    mp3 = sound("mp3")
    yield "rates.mp3", sound("mp3bare") + FORMATS["mp3bare"].make(voice(16_000)[:, None], 16_000)
    yield "layouts.mp3", sound("mp3bare") + FORMATS["mp3bare"].make(np.repeat(voice(44_100)[:, None], 2, 1), 44_100)
    yield "joined.mp3", mp3 + mp3
    yield "joined.flac", flac + flac
    yield "joined.wav", sound("wav16") + sound("wav16")
    yield "picture.mp3", id3v2(400_000) + mp3
    yield "picture-half.mp3", id3v2(400_000) + mp3[: len(mp3) // 2]
    yield "picture-only.mp3", id3v2(400_000)[:200_000]
    yield "vbri.mp3", vbri(mp3)
    yield "vbri-half.mp3", vbri(mp3)[: len(mp3) // 2]
    yield "unknown.mp3", _patched(mp3, mp3.index(b"Info") + 4, bytes(12))
    live = encoded("mp3", "libmp3lame", live=True)
    yield "live.mp3", live(voice(44_100)[:, None], 44_100)
    yield "live.wav", encoded("wav", "pcm_s16le", live=True)(voice(16_000)[:, None], 16_000)
    yield "live.flac", encoded("flac", "flac", live=True)(voice(16_000)[:, None], 16_000)
    yield "live.au", encoded("au", "pcm_s16be", live=True)(voice(16_000)[:, None], 16_000)
    yield "live.caf", encoded("caf", "pcm_s16be", live=True)(voice(16_000)[:, None], 16_000)
    for name, size in (("0", 0), ("ffffffff", 0xFFFFFFFF), ("7fffffff", 0x7FFFFFFF), ("7ffff024", 0x7FFFF024)):
        yield f"streamed-{name}.wav", _streamed_wav(size)
    wav = sound("wav16")
    yield "riff-size.wav", _patched(wav, 4, struct.pack("<I", len(wav)))
    yield "riff-tag-cut.wav", _patched(wav, 4, struct.pack("<I", len(wav) + 400)) + b"LIST" + struct.pack("<I", 400) + b"INFO"
    item = struct.pack("<II", 4, 0) + b"Title\0name"
    yield "tagged.wv", sound("wavpack") + item + b"APETAGEX" + struct.pack("<IIII8x", 2_000, 32 + len(item), 1, 0)
    long = voice(48_000, 12)[:, None]
    pages = _ogg_pages(FORMATS["opus"].make(long, 48_000))
    yield "rip.opus", b"".join(pages[:2] + pages[12:])
    yield "lost-page.opus", b"".join(pages[:6] + pages[8:])
    pages = _ogg_pages(FORMATS["vorbis"].make(voice(44_100, 12)[:, None], 44_100))
    yield "rip.ogg", b"".join(pages[:2] + pages[-2:])
    yield "pause.mka", _paused_mka()
    m4a = sound("m4a")
    yield "trimmed.m4a", _patched(m4a, m4a.index(b"elst") + 12, struct.pack(">I", 1_000))
    yield "twice-a.wav", wav
    yield "twice-b.wav", wav


def _special(folder: Path) -> None:
    """What is no regular file, or cannot be read."""
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "dangling.wav").symlink_to("gone.wav")
    (folder / "link.wav").symlink_to("wav16-sound.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    # 4 GiB more than the header's 32 bits can say, almost all of it a hole
    content = sound("wav16")
    with (folder / "wrapped.wav").open("wb") as file:
        file.write(content)
        file.truncate(len(content) + (1 << 32))


def build(folder: Path) -> dict[str, Path]:
    """Write the corpus; its files by name."""
    for name, form in FORMATS.items():
        for condition, suffix, content in _conditions(name, form):
            (folder / f"{name}-{condition}{suffix}").write_bytes(content)
    for name, content in _oddities(folder):
        (folder / name).write_bytes(content)
    _special(folder)
    return {path.name: path for path in sorted(folder.iterdir())}

"""What a file says of its size: never more than a whole file has, and more than is left of one that was cut."""

from __future__ import annotations

import io
import struct

import pytest

from kit import audio_corpus
from msfser_cli.errors import RecordingError
from msfser_cli.store.containers import stated_size

SILENT = {"aac", "amr", "flac", "mp3bare", "rifx", "ts", "tta", "wavpack", "webmlive"}
"""Formats that state no size; that of FLAC, TTA and WavPack is a number of samples."""


@pytest.mark.parametrize("name", audio_corpus.FORMATS)
def test_a_whole_file_is_whole_and_a_half_is_not(name: str) -> None:
    content = audio_corpus.sound(name)
    assert stated_size(io.BytesIO(content)) <= len(content)
    assert stated_size(io.BytesIO(content + bytes(1000))) <= len(content)
    for size in (len(content) // 4, len(content) // 2, len(content) * 3 // 4):
        assert (stated_size(io.BytesIO(content[:size])) > size) == (name not in SILENT)


@pytest.mark.parametrize("zeros", [300, 20_000, 100_000])
def test_an_ogg_file_that_ends_in_zeros_was_cut_short(zeros: int) -> None:
    content = audio_corpus.sound("opus")
    pages = [at for at in range(len(content)) if content.startswith(b"OggS\0", at)]
    without_the_last = content[: pages[-1]] + bytes(zeros)
    with pytest.raises(RecordingError, match=f"cut short: it ends in {min(zeros, 65_307)} bytes of zeros"):
        stated_size(io.BytesIO(without_the_last))
    assert stated_size(io.BytesIO(content + bytes(300))) == len(content)


@pytest.mark.parametrize("name", audio_corpus.FORMATS)
def test_a_header_that_ends_anywhere_is_no_error(name: str) -> None:
    content = audio_corpus.sound(name)
    for size in range(200):
        file = io.BytesIO(content[:size])
        assert stated_size(file) >= 0
        assert file.tell() == 0


def wav(riff: int, data: int) -> io.BytesIO:
    """A WAV of 1000 bytes of sound, with these sizes in its header."""
    content = bytearray(audio_corpus.sound("wav16")[:1044])
    struct.pack_into("<I", content, 4, riff)
    struct.pack_into("<I", content, 40, data)
    return io.BytesIO(content)


@pytest.mark.parametrize("riff", [0, 36, 1036, 1044, 5000, 0xFFFFFFFF])
def test_the_size_of_the_sound_counts_and_not_that_of_the_whole(riff: int) -> None:
    assert stated_size(wav(riff, 1000)) == 1044
    assert stated_size(wav(riff, 1002)) == 1046


@pytest.mark.parametrize("unknown", [0, 0xFFFFFFFF, 0xFFFFFFFF - 44, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_size_that_is_not_known_yet_says_nothing(unknown: int) -> None:
    assert stated_size(wav(unknown, unknown)) == 0


def test_sizes_between_two_and_four_gigabytes_are_sizes() -> None:
    assert stated_size(wav(0xC0000024, 0xC0000000)) == 0xC000002C


def test_boxes_and_sizes_of_64_bits() -> None:
    head = b"\0\0\0\x08ftyp"
    assert stated_size(io.BytesIO(head + struct.pack(">I4sQ", 1, b"mdat", 1 << 40))) == 8 + (1 << 40)
    assert stated_size(io.BytesIO(head + struct.pack(">I4s", 0, b"mdat") + bytes(100))) == 0
    assert stated_size(io.BytesIO(head + struct.pack(">I4s", 1 << 30, b"free") + bytes(100))) == 0


def test_a_file_of_nothing_but_parts_is_given_up_on() -> None:
    head = b"\0\0\0\x08ftyp"
    assert stated_size(io.BytesIO(head + b"\0\0\0\x08free" * 1_100_000 + struct.pack(">I4s", 1 << 30, b"mdat"))) == 0


def test_two_tags_before_an_mp3() -> None:
    content = audio_corpus.sound("mp3")
    tagged = audio_corpus.id3v2(500) + audio_corpus.id3v2(70) + content
    assert len(content) - 2_000 < stated_size(io.BytesIO(tagged)) - (len(tagged) - len(content)) <= len(content)


def test_an_mp3_that_counts_its_frames_and_not_its_bytes_says_nothing() -> None:
    content = bytearray(audio_corpus.sound("mp3bare"))
    content[21:29] = b"Info\0\0\0\x01"
    assert stated_size(io.BytesIO(content)) == 0


def test_an_mp3_may_lack_a_frame() -> None:
    content = audio_corpus.sound("mp3")
    assert len(content) - 1_441 <= stated_size(io.BytesIO(content[:-400])) <= len(content) - 400


def test_a_header_of_fraunhofers_encoder() -> None:
    content = audio_corpus.vbri(audio_corpus.sound("mp3"))
    assert len(content) // 2 < stated_size(io.BytesIO(content)) <= len(content)


def test_parts_of_odd_sizes() -> None:
    content = audio_corpus.sound("w64")
    data = content.index(b"data")
    odd = bytes(16) + struct.pack("<Q", 24 + 3) + bytes(8)  # three bytes, filled up to eight
    assert stated_size(io.BytesIO(content[:data] + odd + content[data:])) == len(content) + len(odd)


def test_an_rf64_that_does_not_know_its_size_yet() -> None:
    content = bytearray(audio_corpus.sound("rf64"))
    for unknown in (bytes(8), b"\xff" * 8):
        content[28:36] = unknown
        assert stated_size(io.BytesIO(content)) == 0

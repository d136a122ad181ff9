"""Recordings damaged at random: `mutant(seed)` is always the same file for the same seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from kit import audio_corpus

Mutator = Callable[[bytearray, np.random.Generator], None]

_EXTREMES = [
    struct.pack(form, value)
    for form in ("<H", ">H", "<I", ">I", "<Q", ">Q")
    for bits in [8 * struct.calcsize(form)]
    for value in (0, 1, (1 << bits) - 1, (1 << bits) - 8, 1 << bits - 1, (1 << bits - 1) - 1, (1 << bits // 2) - 1)
]


def mutant(seed: int) -> tuple[str, bytes]:
    """Name and content."""
    rng = np.random.default_rng(seed)
    names = list(audio_corpus.FORMATS)
    name = names[rng.integers(len(names))]
    content = bytearray(audio_corpus.sound(name))
    for _ in range(rng.integers(1, 5)):
        if rng.random() < 0.1:
            _splice(content, audio_corpus.sound(names[rng.integers(len(names))]), rng)
        elif content:
            MUTATORS[rng.integers(len(MUTATORS))](content, rng)
    return f"{seed}-{name}{audio_corpus.FORMATS[name].suffix}", bytes(content)


def _place(content: Sequence[int], rng: np.random.Generator) -> int:
    """Anywhere, but every second time in the header."""
    return int(rng.integers(min(len(content), 400) if rng.random() < 0.5 else len(content)))


def _flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 20)):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))


def _overwrite_bytes(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 20)):
        content[_place(content, rng)] = rng.integers(256)


def _overwrite_block(content: bytearray, rng: np.random.Generator) -> None:
    place, size = _place(content, rng), int(rng.choice([16, 128, 512, 4096]))
    new = rng.bytes(size) if rng.random() < 0.5 else bytes([rng.choice([0, 255])]) * size
    content[place : place + size] = new[: len(content) - place]


def _extreme_length(content: bytearray, rng: np.random.Generator) -> None:
    place, new = _place(content, rng), _EXTREMES[rng.integers(len(_EXTREMES))]
    content[place : place + len(new)] = new[: len(content) - place]


def _swap_blocks(content: bytearray, rng: np.random.Generator) -> None:
    size = int(rng.choice([4, 16, 256, 1024]))
    one, other = sorted(_place(content, rng) for _ in range(2))
    if other - one >= size and other + size <= len(content):
        content[one : one + size], content[other : other + size] = content[other : other + size], content[one : one + size]


def _insert(content: bytearray, rng: np.random.Generator) -> None:
    place, size = _place(content, rng), int(rng.choice([1, 2, 4, 100, 3000]))
    content[place:place] = rng.bytes(size)


def _repeat(content: bytearray, rng: np.random.Generator) -> None:
    place, size = _place(content, rng), int(rng.choice([8, 64, 1024]))
    content[place:place] = content[place : place + size] * int(rng.integers(1, 30))


def _delete(content: bytearray, rng: np.random.Generator) -> None:
    place, size = _place(content, rng), int(rng.choice([1, 2, 4, 100, 3000]))
    del content[place : place + size]


def _truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[_place(content, rng) :]


def _splice(content: bytearray, other: bytes, rng: np.random.Generator) -> None:
    """The beginning of one file and the end of another."""
    content[_place(content, rng) if content else 0 :] = other[_place(other, rng) :]


MUTATORS: list[Mutator] = [
    _flip_bits, _overwrite_bytes, _overwrite_block, _extreme_length, _swap_blocks, _insert, _repeat, _delete, _truncate,
]  # fmt: skip

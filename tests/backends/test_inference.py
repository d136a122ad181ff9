"""Batches of similar length, and what becomes of them when memory runs out."""

from __future__ import annotations

import gc
import math
import weakref
from itertools import chain
from threading import Barrier

import numpy as np
import pytest

from msfser_cli.backends.inference import Batches


def computed(batches: Batches, lengths: list[int], most: float = float("inf")) -> tuple[dict[int, int], list[list[int]]]:
    """Item -> its result, and all batches that were tried, where memory is too small for more than `most`."""
    tried: list[list[int]] = []

    def compute(chosen: list[int]) -> list[int]:
        tried.append(chosen)
        if len(chosen) * max(lengths[i] for i in chosen) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return [-i for i in chosen]

    results = {i: result for chosen, of in batches.over(lengths, compute) for i, result in zip(chosen, of, strict=True)}
    return results, tried


@pytest.mark.parametrize(("batches", "expected"), [
    (Batches(0), [[1], [3], [2], [4], [0]]),
    (Batches(12), [[1, 3, 2], [4], [0]]),
    (Batches(100), [[1, 3, 2, 4, 0]]),
    (Batches(100, items=2), [[1, 3], [2, 4], [0]]),
    (Batches(100, equal=True), [[1], [3], [2, 4], [0]]),
    (Batches(100, at_once=2), [[1, 3, 2], [4, 0]]),
    (Batches(100, at_once=8), [[1], [3], [2], [4], [0]]),
])  # fmt: skip
def test_a_batch_has_items_of_similar_length(batches: Batches, expected: list[list[int]]) -> None:
    assert batches.of([20, 1, 4, 2, 4]) == expected


def test_items_without_length_are_computed_alone_where_each_is() -> None:
    assert Batches(0).of([0, 0]) == [[0], [1]]


def test_the_size_that_fits_is_remembered() -> None:
    rng, batches = np.random.default_rng(0), Batches(1000, items=16)
    for trial in range(3):
        lengths = [int(n) for n in rng.integers(0, 60, 50)]
        results, tried = computed(batches, lengths, most=100)
        assert results == {i: -i for i in range(50)}
        sizes = [len(chosen) * max(lengths[i] for i in chosen) for chosen in tried]
        assert (max(sizes) > 100) == (trial == 0)
    assert 25 < batches.most <= 100


def test_as_many_batches_as_wanted_are_computed_at_the_same_time() -> None:
    together = Barrier(3)
    batches = Batches(math.inf, at_once=3)
    done = [chosen for chosen, _ in batches.over([2, 2, 2, 2, 2], lambda _: together.wait(60))]
    assert sorted(done) == [[0, 1], [2, 3], [4]]


def test_the_longest_batch_begins_first() -> None:
    _, tried = computed(Batches(100, items=1), [1, 3, 2])
    assert tried == [[1], [2], [0]]


def test_where_memory_is_too_small_for_batches_at_the_same_time_all_are_computed() -> None:
    lengths = [5, 50, 5, 50, 5, 20]
    results, tried = computed(Batches(1000, at_once=2), lengths, most=50)
    assert results == {i: -i for i in range(6)}
    assert max(len(chosen) for chosen in tried) == 3


def test_no_memory_for_a_single_item_is_an_error() -> None:
    with pytest.raises(MemoryError, match=r"a single item \(CUDA out of memory"):
        computed(Batches(1000), [5, 50, 5], most=49)


def test_another_error_is_not_a_lack_of_memory() -> None:
    def fail(chosen: list[int]) -> None:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        list(Batches(10).over([1, 1], fail))


def test_what_a_failed_batch_held_is_free_before_the_next_is_tried() -> None:
    held: list[weakref.ref[np.ndarray]] = []

    def compute(chosen: list[int]) -> int:
        assert all(ref() is None for ref in held)
        tensor = np.zeros(10)
        held.append(weakref.ref(tensor))
        if len(chosen) > 1:
            raise MemoryError
        return 0

    gc.disable()
    try:
        done = [chosen for chosen, _ in Batches(100).over([1] * 8, compute)]
    finally:
        gc.enable()
    assert sorted(chain(*done)) == list(range(8))
    assert len(held) > 8

"""A recording's file is the same to what reads it, on disk and in an object store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kit import object_stores
from kit.object_stores import S3
from kit.sounds import hum
from msfser_cli.errors import RecordingError, UsageError
from msfser_cli.store import objects
from msfser_cli.store.media import Media
from msfser_cli.store.objects import Address, location

pytestmark = [pytest.mark.process, pytest.mark.server]

WAV = Address("s3", "archive/a.wav")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3]:
    """It has the recording a.wav, which lies on disk as well."""
    hum(tmp_path / "a.wav", 3)
    with object_stores.s3() as store:
        store.put("a.wav", (tmp_path / "a.wav").read_bytes())
        yield store


def test_an_object_is_copied_once_when_it_is_needed(tmp_path: Path, store: S3) -> None:
    with Media(WAV, tmp_path / "x.parquet") as media, Media(tmp_path / "a.wav") as on_disk:
        assert store.requests == []
        content = media.content()
        audio = media.audio()
        assert store.reads() == ["a.wav"]
        assert (content.sha256, content.size_bytes) == (on_disk.content().sha256, on_disk.content().size_bytes)
        assert np.array_equal(audio.samples[:], on_disk.audio().samples[:])
        assert media.change() is on_disk.change() is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]
    assert len(audio.samples[:]) == 48_000  # without the copy


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_an_object_is_copied_in_blocks(store: S3, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    monkeypatch.setattr(objects, "_BLOCK", 1000)
    content = np.random.default_rng(0).bytes(1000 * blocks + (7 if blocks != 1 else 0))
    store.put("bytes", content, age=5)
    with objects.copied(Address("s3", "archive/bytes"), None) as copy:
        assert copy.path.read_bytes() == content
        assert (copy.sha256, copy.size_bytes, copy.state) == (hashlib.sha256(content).hexdigest(), len(content), None)


@pytest.mark.parametrize("key", ["none.wav", "folder", "a//b.wav", "a/../a.wav"])
def test_what_is_no_object_fails(store: S3, key: str) -> None:
    store.put("folder/a.wav", b"")
    with pytest.raises(RecordingError) as raised, Media(Address("s3", f"archive/{key}")) as media:
        media.content()
    assert raised.value.reason == ("unreadable" if key.startswith("a/") else "missing")


@pytest.mark.usefixtures("store")
def test_an_object_that_is_too_large_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_BYTES", 1000)
    with pytest.raises(RecordingError, match="more than the limit of 1000") as raised, Media(WAV) as media:
        media.content()
    assert raised.value.reason == "too_large"


def test_text_is_an_address_or_a_path() -> None:
    assert location("s3://archive/a b/ü#?.wav") == Address("s3", "archive/a b/ü#?.wav")
    assert location("gs://archive/") == Address("gs", "archive")
    for text in ("archive/a.wav", "s3/archive", "s3:/archive", "http://archive/a.wav", "./s3://archive"):
        assert location(text) == Path(text)
    for text in ("s3://", "s3:///a.wav", "gs://?/a", "s3://archive//a.wav", "s3://archive/a/../b"):
        with pytest.raises(UsageError, match=r"not an address of an object store; write it as (s3|gs)://bucket/folder"):
            location(text)
    assert location("s3://archive/show/1.wav").below(Address("s3", "archive/show")) == "1.wav"  # type: ignore[union-attr]
    assert location("s3://archive/showcase/1.wav").below(Address("s3", "archive/show")) is None  # type: ignore[union-attr]

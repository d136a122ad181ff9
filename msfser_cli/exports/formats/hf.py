"""A dataset for the `datasets` library: all columns but the vectors as Parquet files, and a card that names the files.

With sound, each row has that of its utterance: FLAC with 16 kHz, as msfser heard it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli import __version__
from msfser_cli.errors import RecordingError
from msfser_cli.exports.codecs import flac
from msfser_cli.exports.format import PerTable
from msfser_cli.exports.recordings import Table
from msfser_cli.schemas import SAMPLE_RATE_HZ, Column, columns_through
from msfser_cli.store import tables
from msfser_cli.store.arrow import schema
from msfser_cli.store.audio import Audio

_ROWS = 100
"""The rows that are read together. Those with sound are large."""
_SHARD_BYTES = 500_000_000
"""A file ends with the row group that makes it larger than this."""

_SOUND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES = {"audio": {"sampling_rate": SAMPLE_RATE_HZ, "_type": "Audio"}}


def _files(table: Table, say: Callable[[str], None], *, sound: bool) -> Iterator[tuple[str, Iterator[bytes]]]:
    folder = "hf-audio" if sound else "hf"
    columns = [column for column in columns_through("predict", vectors=False) if column.name in table.stored]
    groups = _Groups(_with_sound(table, columns, say) if sound else (rows for _, rows in tables.slices(table.path, columns)))
    shards: list[str] = []
    content = hashlib.sha256()
    while groups.next is not None or not shards:
        shards.append(f"data/train-{len(shards):05d}.parquet")
        pieces = _hashed(_shard(groups, columns, sound=sound), content)
        yield f"{folder}/{shards[-1]}", pieces
        for _ in pieces:  # nobody asked for them if the file is kept; the next one has the rows after them all the same
            pass
    name = f"{table.path.stem}-{content.hexdigest()[:12]}"
    yield f"{folder}/README.md", iter([_card(name, table, columns, shards, sound=sound).encode()])


def _hashed(pieces: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _with_sound(table: Table, columns: list[Column], say: Callable[[str], None]) -> Iterator[pa.Table]:
    """The rows, a few at a time, with the column `audio`, null where the utterance cannot be heard."""
    silent: list[str] = []
    for recording_id, rows in tables.slices(table.path, columns):
        clip: Callable[[dict[str, Any]], dict[str, Any] | None]
        try:
            with table.media(recording_id) as media:
                clip = partial(_clip, table.decoded(media, split=True), silent)
        except RecordingError as error:
            silent += [f"{recording_id}: {error.detail}"] * len(rows)
            clip = _no_clip
        for first in range(0, len(rows), _ROWS):
            some = rows.slice(first, _ROWS)
            yield some.append_column("audio", pa.array(map(clip, some.to_pylist()), _SOUND))
    if silent:
        say(f"{len(silent)} utterances have no sound in hf-audio: {silent[0]}" + ("; ..." if len(set(silent)) > 1 else ""))


def _clip(audio: Audio, silent: list[str], row: dict[str, Any]) -> dict[str, Any] | None:
    """The sound of the row; None if it cannot be heard, and why in `silent`."""
    try:
        samples = audio.of_channel(row.get("channel")).stretch(row["start"], row["end"])
    except RecordingError as error:
        silent.append(f"{row['utterance_id']}: {error.detail}")
        return None
    if not len(samples):
        silent.append(f"{row['utterance_id']}: it lies after the end of the recording")
        return None
    return {"bytes": flac(samples), "path": f"{row['utterance_id']}.flac"}


def _no_clip(row: dict[str, Any]) -> None:
    return None


class _Groups:
    """Groups of about `_ROWS` rows, of which the next one is known."""

    def __init__(self, parts: Iterator[pa.Table]) -> None:
        self._parts = parts
        self.next = self._joined()

    def pop(self) -> pa.Table:
        """The next group."""
        group, self.next = self.next, self._joined()
        return group

    def _joined(self) -> pa.Table | None:
        parts: list[pa.Table] = []
        for part in self._parts:
            parts.append(part)
            if sum(map(len, parts)) >= _ROWS:
                break
        return pa.concat_tables(parts) if parts else None


def _shard(groups: _Groups, columns: list[Column], *, sound: bool) -> Iterator[bytes]:
    fields = [*schema(columns, {}), *([pa.field("audio", _SOUND)] if sound else [])]
    features = json.dumps({"info": {"features": _FEATURES if sound else {}}})
    written, size = io.BytesIO(), 0
    with pq.ParquetWriter(written, pa.schema(fields, {b"huggingface": features.encode()}), compression="zstd") as writer:
        while groups.next is not None and size <= _SHARD_BYTES:
            writer.write_table(groups.pop().replace_schema_metadata(writer.schema.metadata))
            size += written.tell()
            yield written.getvalue()
            written.seek(0)
            written.truncate()
    yield written.getvalue()


def _card(name: str, table: Table, columns: list[Column], shards: list[str], *, sound: bool) -> str:
    """name: of the configuration. The library remembers a dataset by it, so another content has another one."""
    files = "".join(f"    - {shard}\n" for shard in shards)
    meanings = [(column.name, column.meaning) for column in columns]
    meanings += [("audio", "the sound of the utterance, FLAC with 16 kHz")] if sound else []
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in meanings)
    return (
        f"---\nconfigs:\n- config_name: {json.dumps(name)}\n  data_files:\n  - split: train\n    path:\n{files}---\n\n"
        f"# {table.path.stem}\n\nMade by msfser {__version__}. A row is an utterance.\n\n"
        f"| column | meaning |\n|---|---|\n{rows}"
    )


FORMATS = {"hf": PerTable((), partial(_files, sound=False)), "hf-audio": PerTable((), partial(_files, sound=True))}

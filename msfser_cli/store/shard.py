"""Shards: parts of a corpus that are annotated apart from each other, each into an output of its own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from msfser_cli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """The recordings of a corpus whose hash, divided by `of`, leaves `number`. It depends on their ids only."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that is written I/N. Raises UsageError for other text, and unless 0 <= I < N."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or shard.number >= shard.of:
            raise UsageError(f"--shard takes I/N, with I from 0 to N-1, such as 0/3, 1/3 and 2/3, not {text!r}")
        return shard

    @classmethod
    def of_extra(cls, extra: dict[str, Any]) -> Shard | None:
        """The shard that a lineage's `extra` names; None: the whole corpus."""
        return cls.parse(extra["shard"]) if "shard" in extra else None

    @property
    def extra(self) -> dict[str, Any]:
        """What a lineage's `extra` says of the shard."""
        return {"shard": str(self)}

    def has(self, recording_id: str) -> bool:
        """Whether the recording belongs to the shard."""
        return int(hashlib.sha256(recording_id.encode()).hexdigest()[:16], 16) % self.of == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def in_words(shard: Shard | None) -> str:
    """The part of the corpus, for messages."""
    return "the whole corpus" if shard is None else f"shard {shard}"

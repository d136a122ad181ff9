"""The order in which a run takes the recordings of its source."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from msfser_cli.runs.source import Item

ELSEWHERE = 5
"""The number of recordings that `Turns.look_elsewhere` moves to the front."""


class Turns:
    """The items of a source, in order. `look_elsewhere` moves some items from further on to the front."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._remaining = deque(items) if isinstance(items, Sequence) else None
        self._items = items
        self.begun = 0

    def __iter__(self) -> Iterator[Item]:
        if self._remaining is None:  # a table is read as a stream
            for item in self._items:
                self.begun += 1
                yield item
        else:
            while self._remaining:
                self.begun += 1
                yield self._remaining.popleft()

    def look_elsewhere(self) -> int:
        """Move up to `ELSEWHERE` items to the front, and return their number."""
        if not self._remaining:
            return 0
        count = len(self._remaining)
        places = {count * (number + 1) // (ELSEWHERE + 1) for number in range(ELSEWHERE)}
        items = list(self._remaining)
        rest = (item for place, item in enumerate(items) if place not in places)
        self._remaining = deque([*(items[place] for place in sorted(places)), *rest])
        return len(places)

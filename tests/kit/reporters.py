"""What a run reports to."""

from __future__ import annotations

from collections.abc import Callable

from msfser_cli.runs.source import Source
from msfser_cli.schemas import LedgerLine


class Watcher:
    """Keeps what a run reports, and may do something at a recording: `at` gets its name."""

    def __init__(self, at: Callable[[str], None] = lambda identity: None) -> None:
        self.lines: dict[str, LedgerLine] = {}
        """The ledger's lines, by recording."""
        self.names: list[str] = []
        self.news: list[str] = []
        self.unchanged: list[str] = []
        self._at = at

    def start(self, source: Source) -> None:
        pass

    def recording(self, line: LedgerLine, *, unchanged: bool) -> None:
        self.lines[line.recording_id] = line
        self.names.append(line.recording_id)
        (self.unchanged if unchanged else self.news).append(line.recording_id)
        self._at(line.recording_id)

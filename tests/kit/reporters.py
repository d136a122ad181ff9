"""What a run reports to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msfser_cli.runs.source import Source


class Watcher:
    """Keeps what a run reports, and may do something at a recording: `at` gets its name."""

    def __init__(self, at: Callable[[str], None] = lambda identity: None) -> None:
        self.lines: dict[str, dict[str, Any]] = {}
        """The ledger's lines, by recording."""
        self.names: list[str] = []
        self.news: list[str] = []
        self.unchanged: list[str] = []
        self._at = at

    def start(self, source: Source) -> None:
        pass

    def recording(self, line: dict[str, Any], *, unchanged: bool) -> None:
        self.lines[line["recording_id"]] = line
        self.names.append(line["recording_id"])
        (self.unchanged if unchanged else self.news).append(line["recording_id"])
        self._at(line["recording_id"])

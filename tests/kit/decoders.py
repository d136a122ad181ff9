"""The processes that decode audio for this one."""

from __future__ import annotations

from msfser_cli.store import audio


def end_decoders() -> None:
    """End those that no thread uses now."""
    while audio._idle:
        audio._idle.pop().end()

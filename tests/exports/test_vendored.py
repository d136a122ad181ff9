"""What is inside msfser from others is byte for byte what they published, with its licence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import msfser_cli

VENDOR = Path(msfser_cli.__file__).parent / "exports" / "page" / "vendor"


@pytest.mark.parametrize(("name", "sha256"), [  # of package/dist in npm's uplot-1.6.32.tgz
    ("uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
    ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
    ("uPlot-LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
])  # fmt: skip
def test_uplot_is_as_published(name: str, sha256: str) -> None:
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256

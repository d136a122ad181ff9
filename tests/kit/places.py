"""Where things lie."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
RECIPES = ROOT / "recipes"
QUICKSTART = RECIPES / "quickstart"
DOUBLES = TESTS / "doubles"
"""Back ends that are quick, installed for whoever has this folder on his path."""
OFFLINE = TESTS / "offline"
GPU = TESTS / "gpu"
"""The tests that need a GPU."""
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
"""Where files are in memory, if anywhere. A process that is killed, unlike a machine that loses its power, loses nothing that was
not synced, and thousands of syncs take minutes on a busy disk."""

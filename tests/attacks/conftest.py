"""What the tests here share: `hostile` is importable, and its program that runs msfser in a small machine."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

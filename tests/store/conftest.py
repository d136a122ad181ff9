"""Makes `store_rows`, which the tests here and the processes they start share, importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

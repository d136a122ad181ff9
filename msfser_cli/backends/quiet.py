"""Keeps whisperX and pyannote quiet: their output, their warnings and their reports of use."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

# pyannote reports its use over the network. This switches the reports off. It must be set before the import.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
# Without a handler, whisperX adds one that writes to stdout, where msfser writes results.
logging.getLogger("whisperx").addHandler(logging.NullHandler())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside the block, output and warnings of libraries are dropped. With --debug they go to stderr."""
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr if debugging else io.StringIO()):
        if not debugging:
            warnings.simplefilter("ignore")
        yield

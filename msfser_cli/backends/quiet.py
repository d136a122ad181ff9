"""whisperX and pyannote, which talk: what they print, warn of and report."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

# pyannote reports its use over the network unless told not to before it is imported.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
# Unless it finds a handler, whisperX makes one that writes to stdout, where the data go.
logging.getLogger("whisperx").addHandler(logging.NullHandler())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What they and their imports print and warn of goes to stderr when debugging, and nowhere otherwise."""
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr if debugging else io.StringIO()):
        if not debugging:
            warnings.simplefilter("ignore")
        yield

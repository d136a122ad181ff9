"""The environment of a user who has set nothing."""

from __future__ import annotations

import os

import pytest

_KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


def forget_settings(patch: pytest.MonkeyPatch) -> None:
    """Unset what sets an option of msfser, keys, and proxies.

    Runs have as many worker processes as MSFSER_TEST_JOBS says, else none, because workers take a second to start.
    """
    for name in os.environ:
        if name.startswith("MSFSER_") and not name.startswith("MSFSER_TEST_"):
            patch.delenv(name)
    patch.setenv("MSFSER_JOBS", os.environ.get("MSFSER_TEST_JOBS", "0"))
    for name in _KEYS:
        patch.delenv(name, raising=False)
        patch.delenv(name.lower(), raising=False)

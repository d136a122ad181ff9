"""The pages of a report: templates filled with data, in one file each, that fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

_NONE = "'none'"
_HERE = resources.files(__package__)


@lru_cache
def _part(name: str) -> str:
    return _HERE.joinpath(*name.split("/")).read_text(encoding="utf-8")


def filled(
    template: str, scripts: Mapping[str, str], data: Any = None, *, allowed: str = "", markup: Mapping[str, str] | None = None,
    **values: str,
) -> bytes:
    """The page `template`. scripts: place -> file, in the page's order. data: what its script reads. values: texts by place.

    markup: place -> what is no text. The policy lets the browser run these scripts and no other, and fetch nothing but what
    `allowed`, a part of a policy, allows.
    """
    inside = {place: _part(name) for place, name in scripts.items()}
    style = _part("style.css") + (_part("vendor/uPlot.min.css") if "plot" in scripts else "")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, inside.values())) or _NONE}; style-src {_hash(style)}; "
        f"base-uri 'none'; form-action 'none'; {allowed}"
    )
    # Inside of a script element, only "</script" and "<!--" are not data.
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    places = {**inside, "style": style, "policy": policy, "data": content, **(markup or {})}
    places |= {place: html.escape(text) for place, text in values.items()}
    first, *rest = _part(template).split("{{")
    return "".join([first, *(places[place] + after for place, _, after in (piece.partition("}}") for piece in rest))]).encode()


@lru_cache
def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

"""The pages of a report: templates filled with data, in one file each, that fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

_NONE = "'none'"
_DATA, _END = '<script type="application/json" id="{}">', "</script>"
_HERE = resources.files(__package__)


@lru_cache
def _part(name: str) -> str:
    return _HERE.joinpath(*name.split("/")).read_text(encoding="utf-8")


def filled(
    template: str, scripts: Mapping[str, str], data: Mapping[str, Any], *, allowed: str = "",
    markup: Mapping[str, str] | None = None, **values: str,
) -> bytes:
    """The page `template`. scripts: place -> file, in the page's order. data: place -> what its script reads, each in an element
    with the place as its id (see `data_of`). values: texts by place.

    markup: place -> what is no text. The policy lets the browser run these scripts and no other, and fetch nothing but what
    `allowed`, a part of a policy, allows.
    """
    inside = {place: _part(name) for place, name in scripts.items()}
    style = _part("style.css") + (_part("vendor/uPlot.min.css") if "plot" in scripts else "")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, inside.values())) or _NONE}; style-src {_hash(style)}; "
        f"base-uri 'none'; form-action 'none'; {allowed}"
    )
    places = {**inside, "style": style, "policy": policy, **(markup or {})}
    places |= {place: _DATA.format(place) + _json(content) + _END for place, content in data.items()}
    places |= {place: html.escape(text) for place, text in values.items()}
    first, *rest = _part(template).split("{{")
    return "".join([first, *(places[place] + after for place, _, after in (piece.partition("}}") for piece in rest))]).encode()


def _json(content: Any) -> str:
    # Inside of a script element, only "</script" and "<!--" are not data.
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def data_of(page: Path, place: str) -> Any:
    """What msfser filled the page with at `place`; None if this page does not have that."""
    content = page.read_text(encoding="utf-8").partition(_DATA.format(place))[2].partition(_END)[0]
    return json.loads(content) if content else None


@lru_cache
def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

"""Reads times: seconds, `H:M:S`, time deltas of pandas, and ISO 8601 durations."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(ms|msecs?|milliseconds?|s|secs?|seconds?)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}(?:[.,]\d*)?)")
_TIMEDELTA = re.compile(r"([+-]?\d+) days?,?(?:\s+\+?(\d+):(\d{1,2}):(\d{1,2}(?:\.\d*)?))?", re.IGNORECASE)
_ISO = re.compile(r"P(?=[\dT])(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d*)?)S)?)?", re.IGNORECASE)

SECONDS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0}
MILLISECONDS = {"ms": 1e-3, "msec": 1e-3, "msecs": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3}
UNITS = SECONDS | MILLISECONDS
"""Units of a time, or in the name of its column -> their length in seconds."""


def seconds(text: str, unit: float = 1.0) -> float:
    """The time `text` in seconds. Raises ValueError if it is not a time.

    Formats: `12.5`, `12.5 s`, `12500 ms`, `M:S.s`, `H:M:S.s` (also with a comma, as in SRT), `0 days 00:00:12.5` of pandas, and
    `PT12.5S` of ISO 8601. unit: the unit of a number without a unit, in seconds.
    """
    text = text.strip()
    if match := _NUMBER.fullmatch(text):
        number, written = match.groups()
        return _scaled(float(number), unit if written is None else UNITS[written.lower()])
    if match := _CLOCK.fullmatch(text):
        hours, minutes, rest = match.groups()
        if hours is None or int(minutes) < 60:
            return _total(0, hours, minutes, rest.replace(",", "."))
    elif match := _TIMEDELTA.fullmatch(text) or _ISO.fullmatch(text):
        return _total(*match.groups())
    raise ValueError(f"{text!r} is not a time")


def _scaled(number: float, unit: float) -> float:
    return number / 1000 if unit == 1e-3 else number * unit  # the division is exact for 1500 ms = 1.5 s


def _total(days: str | int | None, hours: str | None, minutes: str | None, rest: str | None) -> float:
    last = Decimal(rest or 0)
    if last >= 60:
        raise ValueError("60 seconds or more beside minutes")
    whole = int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes or 0) * 60
    return float(whole + last)  # a decimal sum, because 660 + 23.089 is not 683.089 in binary

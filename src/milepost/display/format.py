"""Values as short text for people."""

from __future__ import annotations

import math
from typing import Any

_LONG_BITS = 256
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(nbytes: float) -> str:
    """Return a number of bytes with a binary unit: ``512 bytes``, ``1.5 MiB``."""
    amount = float(nbytes)
    for unit in _UNITS[:-1]:
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_UNITS[-1]}"


def duration(seconds: float) -> str:
    """Return a time span in at most two units: ``0.4 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, large_s, small_s in (("min", "s", 60, 1), ("h", "min", 3600, 60)):
        if whole < large_s * (60 if large == "min" else 24):
            return f"{whole // large_s} {large} {whole % large_s // small_s} {small}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def amount(number: float) -> str:
    """Return a count of CPUs or GPUs: whole ones without a fraction."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.2f}".rstrip("0")


def value(item: Any) -> str:
    """Return a parameter or metric as text on one line, numbers with four significant digits."""
    if item is None:
        return ""
    if isinstance(item, bool | str):
        return " ".join(str(item).split())
    if isinstance(item, int):
        return str(item) if item.bit_length() < _LONG_BITS else _large(item)
    kind = type(item)
    if kind.__module__ == "numpy" and getattr(item, "ndim", None) == 0:
        return value(item.item())
    if isinstance(item, float):
        return f"{item:.4g}"
    if callable(item) and hasattr(item, "__name__"):
        return str(item.__name__)
    return " ".join(repr(item).split())


def _large(number: int) -> str:
    """An integer of hundreds of digits, which str() may refuse to write."""
    exponent = math.log10(abs(number))
    whole = math.floor(exponent)
    return f"{'-' if number < 0 else ''}{10 ** (exponent - whole):.4g}e+{whole}"


def shorten(text: str, width: int) -> str:
    """Return text of at most ``width`` characters; an ellipsis stands for what was cut."""
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…"


def first_line(text: str) -> str:
    """Return what an error says, without its traceback: the last line that is not indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    plain = [line for line in lines if not line[0].isspace()]
    return (plain or lines or [""])[-1].strip()

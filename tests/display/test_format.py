"""Values as short text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from milepost.display.format import amount, duration, first_line, size, value


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB")],
)
def test_sizes_have_binary_units(nbytes: int, text: str) -> None:
    """Bytes are told in the unit in which people think of them."""
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    """Time spans stay readable from milliseconds to days."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (None, ""),
        (True, "True"),
        (3, "3"),
        (0.000123456, "0.0001235"),
        (float("nan"), "nan"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        ("two\nlines", "two lines"),
        ([1, 2], "[1, 2]"),
        (len, "len"),
        (np.arange(2), "array([0, 1])"),
    ],
)
def test_values_are_short_and_on_one_line(item: Any, text: str) -> None:
    """Any parameter or metric can be a cell."""
    assert value(item) == text


def test_counts_of_resources_are_exact() -> None:
    """Whole CPUs have no fraction, parts of a GPU keep theirs."""
    assert [amount(n) for n in (2.0, 0.5, 0.25)] == ["2", "0.5", "0.25"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("Traceback (most recent call last):\n  File 'x'\nValueError: bad\n", "ValueError: bad"),
        ("killed by signal 9", "killed by signal 9"),
        ("ValueError: first\n    caret ^^^", "ValueError: first"),
        ("", ""),
    ],
)
def test_an_error_is_told_by_its_message(error: str, text: str) -> None:
    """Of a traceback only what was raised is shown."""
    assert first_line(error) == text

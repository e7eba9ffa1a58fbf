"""What holds for all tests."""

from __future__ import annotations

import signal

import pytest

# Suites that projects inherit explain their failures like tests do.
pytest.register_assert_rewrite("milepost.testing.engine_suite", "milepost.testing.storage")


def pytest_configure() -> None:
    """Listen to Ctrl-C, as a program in a terminal does.

    Programs that a shell starts in the background ignore it, and so do those that they start; but
    many tests send it to processes of theirs.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest

from milepost.engine import preload

# Suites that projects inherit explain their failures like tests do.
pytest.register_assert_rewrite("milepost.testing.engine_suite", "milepost.testing.storage")

_LEAN = frozenset({"milepost", "cloudpickle", "msgspec", "numpy"})


def pytest_configure() -> None:
    """Listen to Ctrl-C, as a program in a terminal does.

    Programs that a shell starts in the background ignore it, and so do those that they start; but
    many tests send it to processes of theirs.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Keep the cores busy: most tests wait for other processes and for the disk."""
    return 3 * len(os.sched_getaffinity(0)) // 2 or 1


def pytest_collection_finish() -> None:
    """Spare the collector, and processes forked off this one, what stays for all tests anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def lean_workers() -> Iterator[None]:
    """Have workers inherit no libraries that only other tests need.

    One process collects all tests and imports whatever any of them imports; a script that had
    imported as much would rightly wait seconds for its first worker.
    """
    wanted = preload.wanted

    def few() -> tuple[tuple[str, ...], tuple[str, ...]]:
        first, later = wanted()
        return tuple(name for name in first if name.partition(".")[0] in _LEAN), later

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preload, "wanted", few)
        yield

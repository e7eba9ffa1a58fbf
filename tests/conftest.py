"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import hypothesis
import pytest

from milepost.engine import preload

# How fast examples come depends on what else the machine does, and says nothing about the code.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# Suites that projects inherit explain their failures like tests do.
pytest.register_assert_rewrite("milepost.testing.engine_suite", "milepost.testing.storage")

_LEAN = ("milepost", "cloudpickle", "msgspec", "numpy")
# Of those, what imports more than that.
_HEAVY = (
    *("numpy.f2py", "numpy.testing", "milepost.tune.integration", "milepost.tune.logger"),
    *("milepost.tune.search.", "milepost.train.data.", "milepost.train.torch"),
    *("milepost.train.xgboost", "milepost.train.lightgbm", "milepost.train.lightning"),
    *("milepost.train.huggingface", "milepost.train.tensorflow", "milepost.train.jax"),
)
_LONG = frozenset({"test_project", "test_examples", "test_resumable_torch", "test_reference_000"})


def pytest_configure(config: pytest.Config) -> None:
    """Listen to Ctrl-C, as a program in a terminal does, and have a place for temporary files.

    Programs that a shell starts in the background ignore Ctrl-C, and so do those that they start;
    but many tests send it to processes of theirs. Temporary files are gone at the end, also those
    that trainables of tests leave behind as users' do; only ``tmp_path`` stays to be looked at.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    scratch = tempfile.mkdtemp(prefix="mp-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
    config.add_cleanup(lambda: shutil.rmtree(scratch, ignore_errors=True))
    os.environ["TMPDIR"] = tempfile.tempdir = scratch


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Keep the cores busy: most tests wait for other processes and for the disk."""
    return 3 * len(os.sched_getaffinity(0)) // 2 or 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``@pytest.mark.always("id", ...)``: the test's other parameters are for ``make chaos``."""
    named: dict[str, set[str]] = {}
    for item in items:
        mark = item.get_closest_marker("always")
        if mark is not None and isinstance(item, pytest.Function):
            left = named.setdefault(item.nodeid.partition("[")[0], set(mark.args))
            if item.callspec.id in mark.args:
                left.discard(item.callspec.id)
            else:
                item.add_marker(pytest.mark.chaos)
    # The longest first: else one worker would carry them out while the others have nothing to do.
    items.sort(key=lambda item: item.path.stem not in _LONG)
    if unknown := {test: left for test, left in named.items() if left}:
        raise pytest.UsageError(f"no such parameters: {unknown}")


def pytest_collection_finish() -> None:
    """Prepare for the many small runs that tests make.

    Trainables go to workers by value: otherwise each worker would import the module of the test
    with all that the test itself needs, which takes longer than the rest of the run. And the
    collector, and processes forked off this one, are spared what stays for all tests anyway.
    """
    tests = f"{Path(__file__).parent}/"
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(tests):
            cloudpickle.register_pickle_by_value(module)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def lean_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have workers inherit no libraries that only other tests need.

    Tests with ``@pytest.mark.preloading`` are about what workers inherit;
    ``@pytest.mark.preloading("torch")`` spares many workers of a test the import of that.

    One process collects all tests and imports whatever any of them imports; a script that had
    imported as much would rightly wait seconds for its first worker.
    """
    mark = request.node.get_closest_marker("preloading")
    if mark is not None and not mark.args:
        yield
        return
    wanted = preload.wanted
    named = mark.args if mark is not None else ()

    def few() -> tuple[tuple[str, ...], tuple[str, ...]]:
        first, later = wanted()
        lean = (name for name in first if name.partition(".")[0] in (*_LEAN, *named))
        return (*named, *(name for name in lean if not name.startswith(_HEAVY))), later

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preload, "wanted", few)
        yield

"""What the cases share: the library under test, a place for results, one line of output."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

#: How a case tells its figures to the process that started it.
MARK = "FIGURES "


def library() -> str:
    """The library under test: the first argument, ``milepost`` or ``ray``."""
    return sys.argv[1]


def is_ray() -> bool:
    """Whether Ray is under test; some cases then do less of the same, and say how much."""
    return library() == "ray"


def tune_module() -> Any:
    """The library's ``tune``."""
    return importlib.import_module(f"{library()}.tune")


def start(cpus: int = 2) -> None:
    """Start the library with a number of CPUs, outside what is measured."""
    options: dict[str, Any] = {"num_cpus": cpus}
    if is_ray():
        options |= {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    importlib.import_module(library()).init(**options)


@contextlib.contextmanager
def storage() -> Iterator[str]:
    """A directory for experiments, beside the temporary directories of the trials."""
    path = tempfile.mkdtemp(prefix="benchmark-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_config(path: str, **more: Any) -> Any:
    """A quiet run in ``path``."""
    return tune_module().RunConfig(storage_path=path, verbose=0, **more)


def tell(**figures: float) -> None:
    """Tell the figures of this case; the last thing it does."""
    print(MARK + json.dumps(figures), flush=True)


def p50(seconds: list[float]) -> float:
    """The median."""
    return statistics.median(seconds)


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

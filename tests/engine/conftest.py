from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.engine import server_pool
from milepost.engine.local import LocalEngine
from milepost.testing.driver import TrialDriver

Drive = Callable[..., TrialDriver]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Makes drivers of local workers and closes them."""
    drivers: list[TrialDriver] = []

    def make(trainable: Any, **options: Any) -> TrialDriver:
        driver = TrialDriver(LocalEngine(), trainable, tmp_path, **options)
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        driver.close()


@pytest.fixture(scope="session", autouse=True)
def _no_server_is_left() -> Iterator[None]:
    """Fork servers that were worth keeping serve later tests; none outlives the tests."""
    yield
    server_pool.end_all()


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Waits until a process has ended; False if it has not within ten seconds."""

    def check(pid: int) -> bool:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(10_000))
        finally:
            os.close(fd)

    return check


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a Python program of its own, started in ``tmp_path``."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run

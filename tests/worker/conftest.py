from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.engine import server_pool
from milepost.engine.local import LocalEngine
from milepost.keeper.client import DriverLink
from milepost.testing.driver import TrialDriver


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., TrialDriver]]:
    """Makes drivers of local workers in ``tmp_path`` and closes them."""
    drivers: list[TrialDriver] = []

    def make(trainable: Any, **options: Any) -> TrialDriver:
        driver = TrialDriver(LocalEngine(), trainable, tmp_path, **options)
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        driver.close()


@pytest.fixture
def drive_with_keeper(tmp_path: Path) -> Iterator[Callable[..., TrialDriver]]:
    """Makes a driver of local workers whose checkpoints are committed into ``tmp_path``/exp."""
    made: list[tuple[TrialDriver, DriverLink]] = []

    def make(trainable: Any, **options: Any) -> TrialDriver:
        (tmp_path / "node").mkdir(mode=0o700)
        link = DriverLink(str(tmp_path / "node"))
        driver = TrialDriver(LocalEngine(), trainable, tmp_path / "exp", link=link, **options)
        made.append((driver, link))
        return driver

    yield make
    for driver, link in made:
        driver.close()
        link.close()


@pytest.fixture(scope="session", autouse=True)
def _no_server_is_left() -> Iterator[None]:
    """Fork servers that were worth keeping serve later tests; none outlives the tests."""
    yield
    server_pool.end_all()

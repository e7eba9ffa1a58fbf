"""Workers that die or hang where it is awkward; all begin again, and nobody waits for the dead."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loops import begun, part, rank, trainer

from milepost import train
from milepost.train import DataParallelTrainer, FailureConfig
from milepost.train.backend import BackendConfig

pytestmark = pytest.mark.timeout(100)


def once(mark: str) -> bool:
    """Whether this is the first time."""
    first = not Path(mark).exists()
    Path(mark).touch()
    return first


def fitted(made: DataParallelTrainer, **failure: Any) -> train.Result:
    made.run_config.failure_config = FailureConfig(max_failures=1, **failure)
    return made.fit()


def loop(config: dict[str, Any], suffer: Callable[[], None]) -> int:
    """Three steps; at the second one, rank 1 suffers once."""
    start = begun()
    for step in range(start + 1, 4):
        if step == 2:
            if rank() == 1 and once(config["mark"]):
                suffer()
            train.collective.barrier()
        train.report({"step": step}, checkpoint=part(step=str(step)) if rank() == 0 else None)
    return start


def hang() -> None:
    threading.Event().wait()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("suffer", "limit"), [(die, None), (hang, 1.0)])
def test_while_others_wait_for_it(tmp_path: Path, suffer: Any, limit: float | None) -> None:
    """In a barrier: a death ends their wait, and so does the limit of a worker that hangs."""
    made = trainer(
        tmp_path,
        lambda config: loop(config, suffer),
        train_loop_config={"mark": str(tmp_path / "mark")},
    )
    assert fitted(made, trial_timeout_s=limit).return_value == 1


@dataclass
class Deadly(BackendConfig):
    """Kills rank 1 once, before the training function is called."""

    mark: str = ""

    @property
    def train_func_context(self) -> Any:
        @contextlib.contextmanager
        def entered() -> Iterator[None]:
            if train.get_context().get_world_rank() == 1 and once(self.mark):
                die()
            yield

        return entered


def test_before_the_training_function(tmp_path: Path) -> None:
    """In what a framework does to set a worker up."""

    def steps(config: dict[str, Any]) -> int:
        train.report({"step": 1})
        return 5

    made = trainer(tmp_path, steps, backend_config=Deadly(mark=str(tmp_path / "mark")))
    assert fitted(made).return_value == 5
    assert (tmp_path / "mark").exists()


def test_while_another_one_is_gone_already(tmp_path: Path) -> None:
    """Both die in the same step: that is one failure."""

    def steps(config: dict[str, Any]) -> int:
        first = once(f"{config['mark']}-{rank()}")
        train.collective.barrier()
        if first:
            die()
        train.report({"step": 1})
        return 5

    made = trainer(tmp_path, steps, train_loop_config={"mark": str(tmp_path / "mark")})
    assert fitted(made).return_value == 5

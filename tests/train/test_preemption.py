"""A worker whose machine goes away: all save at the same step and begin again: no failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from loops import begun, part, rank, trainer

from milepost import train
from milepost.control import group
from milepost.train import (
    FailureConfig,
    PreemptionError,
    PreemptionInfo,
    TrainingFailedError,
    WorkerGroupError,
)

pytestmark = pytest.mark.timeout(100)


def once(mark: str) -> bool:
    """Whether this is the first time."""
    first = not Path(mark).exists()
    Path(mark).touch()
    return first


def loop(config: dict[str, Any]) -> int:
    """Rank ``taken`` gets the signal at the second step; saves when told, or every ``saves``."""
    start = begun()
    for step in range(start + 1, 6):
        if step == 2 and rank() in config["taken"] and once(f"{config['mark']}-{rank()}"):
            os.kill(os.getpid(), signal.SIGTERM)
            if config.get("raises"):
                raise KeyError("lost")
        due = step % config["saves"] == 0 if config["saves"] else False
        if config.get("asks"):
            due = train.get_preemption_info() is not None
        checkpoint = part(step=str(step)) if due and rank() == 0 else None
        train.report({"step": step, "pid_": os.getpid()}, checkpoint=checkpoint)
    return start


def fitted(root: Path, preemptions: int = -1, **config: Any) -> train.Result:
    made = trainer(root, loop, train_loop_config={"mark": str(root / "mark"), **config})
    made.run_config.failure_config = FailureConfig(max_preemption_failures=preemptions)
    return made.fit()


@pytest.mark.parametrize(
    ("taken", "saves"), [((1,), 1), ((0,), 1), ((0, 1), 1), ((1,), 2), ((1,), 0)]
)
@pytest.mark.always("taken0-1", "taken3-2")
def test_all_save_and_begin_again(tmp_path: Path, taken: tuple[int, ...], saves: int) -> None:
    """At the step after the signal; it is no failure, and nothing is done twice that was saved."""
    result = fitted(tmp_path, taken=taken, saves=saves)
    frame = result.metrics_dataframe
    assert frame is not None
    if saves:
        assert list(frame["step"]) == [1, 2, 3, 4, 5]
        assert result.return_value == 2
    else:  # there is nothing to go on from
        assert result.return_value == 0
    assert frame["pid_"].nunique() == 2


def test_a_loop_that_asks(tmp_path: Path) -> None:
    """It makes a checkpoint because it is told to, at the same step on all ranks."""
    result = fitted(tmp_path, taken=(1,), saves=0, asks=True)
    assert result.return_value == 2
    frame = result.metrics_dataframe
    assert frame is not None
    assert list(frame["step"]) == [1, 2, 3, 4, 5]


def told(config: dict[str, Any]) -> Any:
    """Wait to be told, and hand on what was said."""
    if not once(f"{config['mark']}-begun-{rank()}"):
        return {each: Path(f"{config['mark']}-{each}").read_text() for each in range(2)}
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    while (info := train.get_preemption_info()) is None:
        threading.Event().wait(0.01)
    Path(f"{config['mark']}-{rank()}").write_text(
        f"{info.reason} {info.preempted_ranks} {(info.remaining_s or 0) > 60}"
    )
    return None


def test_what_all_are_told(tmp_path: Path) -> None:
    """Who loses the machine, how it is known, and until when; returning then ends the attempt."""
    made = trainer(tmp_path, told, train_loop_config={"mark": str(tmp_path / "mark")})
    said = "SIGTERM [1] True"
    assert made.fit().return_value == {0: said, 1: said}


@pytest.mark.parametrize("counts", [False, True])
def test_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, counts: bool) -> None:
    """With a limit the run fails, and says why; the environment makes failures of preemptions."""
    if counts:
        monkeypatch.setenv("RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE", "1")
    with pytest.raises(PreemptionError) as caught:
        fitted(tmp_path, -1 if counts else 0, taken=(1,), saves=1)
    assert isinstance(caught.value, TrainingFailedError)
    info = caught.value.preemption_info
    assert isinstance(info, PreemptionInfo)
    assert (info.preempted_ranks, info.reason) == ([1], "SIGTERM")
    assert not caught.value.drain_timed_out


def test_a_machine_that_is_gone_before_the_next_step(tmp_path: Path) -> None:
    """The worker is killed after the signal: that is no failure either."""

    def taken_away(config: dict[str, Any]) -> int:
        start = begun()
        for step in range(start + 1, 4):
            if step == 2 and rank() == 1 and once(config["mark"]):
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGKILL)
            train.report({"step": step}, checkpoint=part(step=str(step)) if rank() == 0 else None)
        return start

    made = trainer(tmp_path, taken_away, train_loop_config={"mark": str(tmp_path / "mark")})
    assert made.fit().return_value == 1


class Fatal:
    """Ends the process that loads it first, before anybody listens to the signal."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __setstate__(self, state: dict[str, str]) -> None:
        if os.getpid() != int(Path(f"{state['mark']}-driver").read_text()) and once(state["mark"]):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_machine_that_is_gone_before_the_first_step(tmp_path: Path) -> None:
    """The worker did not even listen to the signal."""
    mark = str(tmp_path / "mark")
    Path(f"{mark}-driver").write_text(str(os.getpid()))
    fatal = Fatal(mark)

    def holds(config: dict[str, Any]) -> int:
        assert fatal is not None
        train.report({"step": 1})
        return 5

    assert trainer(tmp_path, holds).fit().return_value == 5
    assert Path(mark).exists()


def test_an_error_after_the_signal_is_a_failure(tmp_path: Path) -> None:
    """What user code does wrong is not excused."""
    with pytest.raises(WorkerGroupError, match="lost"):
        fitted(tmp_path, taken=(1,), saves=1, raises=True)


def stuck(config: dict[str, Any]) -> None:
    if once(f"{config['mark']}-{rank()}"):
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
    train.report({"step": 1})


def test_a_worker_that_does_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when its machine was to be gone; the grace comes on top."""
    monkeypatch.setattr("milepost.control.preempting.DRAIN_S", 0.2)
    assert group.DRAIN_S > 100
    made = trainer(tmp_path, stuck, train_loop_config={"mark": str(tmp_path / "mark")})
    made.run_config.failure_config = FailureConfig(preemption_grace_s=0.2)
    began = time.monotonic()
    assert made.fit().metrics["step"] == 1
    assert time.monotonic() - began > 0.4
    made = trainer(tmp_path / "b", stuck, train_loop_config={"mark": str(tmp_path / "other")})
    made.run_config.failure_config = FailureConfig(max_preemption_failures=0)
    with pytest.raises(PreemptionError) as caught:
        made.fit()
    assert caught.value.drain_timed_out


def test_processes_of_workers_obey_the_signal(tmp_path: Path) -> None:
    """What a worker has forked is ended by SIGTERM as ever."""

    def forks(config: dict[str, Any]) -> int | None:
        child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
        child.start()
        child.terminate()
        child.join()
        train.report({"step": 1})
        return child.exitcode

    assert trainer(tmp_path, forks).fit().return_value == -signal.SIGTERM


def test_a_handler_of_the_user(tmp_path: Path) -> None:
    """It takes the place of ours."""

    def handles(config: dict[str, Any]) -> list[int]:
        seen: list[int] = []
        signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
        os.kill(os.getpid(), signal.SIGTERM)
        train.report({"step": 1})
        return seen

    assert trainer(tmp_path, handles).fit().return_value == [signal.SIGTERM]


def test_the_second_signal_ends_a_worker(tmp_path: Path) -> None:
    """As it does other processes."""

    def twice(config: dict[str, Any]) -> int:
        if once(f"{config['mark']}-{rank()}") and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            sys.exit(3)
        train.report({"step": 1})
        return 7

    made = trainer(tmp_path, twice, train_loop_config={"mark": str(tmp_path / "mark")})
    assert made.fit().return_value == 7


def test_fields_without_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are named, as silence would be taken for consent."""
    made = trainer(tmp_path, lambda: train.report({"step": 1}))
    made.run_config.failure_config = FailureConfig(
        controller_failure_limit=3, relax_collectives_on_preemption=True
    )
    made.fit()
    assert "FailureConfig(controller_failure_limit=3) has no effect" in caplog.text
    assert "FailureConfig(relax_collectives_on_preemption=True) has no effect" in caplog.text

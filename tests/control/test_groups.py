"""Trials of several workers: one result and one checkpoint of all, and what a death leads to."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from plans import Listed, Notes, rows, run_plan

from milepost import tune
from milepost.api.failure_config import FailureConfig
from milepost.api.resources import placement_group_of
from milepost.api.search_algorithm import SearchAlgorithm
from milepost.checkpoint import manifest as manifests
from milepost.control.group import Group
from milepost.errors import CollectiveError
from milepost.worker import session

PAIR = {
    "group": Group(lambda config: 2),
    "resources": lambda config: placement_group_of(tune.PlacementGroupFactory([{"CPU": 1}] * 2)),
}


class Deaf(Listed):
    """Does not look at results, so that nobody judges them."""

    on_trial_result = SearchAlgorithm.on_trial_result


def rank() -> int:
    trial = session.current_trial()
    assert trial is not None
    return trial.rank


def part(**files: str) -> tune.Checkpoint:
    """A directory with files."""
    directory = tempfile.mkdtemp()
    for name, text in files.items():
        Path(directory, name).write_text(text)
    return tune.Checkpoint.from_directory(directory)


def begun() -> int:
    """The step that the checkpoint was made after, or 0."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as directory:
        return int(Path(directory, "step").read_text())


def train(config: dict[str, Any]) -> None:
    """Three steps; those in ``saves`` bring a part, each its own file besides a common one."""
    for step in range(begun() + 1, 4):
        if (rank(), step) == config.get("dies") and not Path(config["mark"]).exists():
            Path(config["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        saves = rank() in config["saves"]
        checkpoint = part(step=str(step), **{f"of{rank()}": str(step)}) if saves else None
        tune.report({"step": step, "rank": rank(), "pid_": os.getpid()}, checkpoint=checkpoint)


@pytest.mark.parametrize("saves", [(0, 1), (0,), (1,), ()])
@pytest.mark.parametrize("judged", [False, True])
def test_one_result_and_one_checkpoint(
    tmp_path: Path, saves: tuple[int, ...], judged: bool
) -> None:
    """The row is that of rank 0, the checkpoint has the parts of those that brought one."""
    notes = Notes()
    options = {"callbacks": [notes]} if judged else {"search": Deaf([{"saves": saves}])}
    outcome = run_plan(tmp_path, train, [{"saves": saves}], **PAIR, **options)
    (record,) = outcome.trials
    assert record.status == "TERMINATED", record.error
    found = rows(record)
    assert [(row["step"], row["rank"]) for row in found] == [(1, 0), (2, 0), (3, 0)]
    assert [row["training_iteration"] for row in found] == [1, 2, 3]
    names = [f"checkpoint_{number:06d}" if saves else None for number in range(3)]
    assert [row["checkpoint_dir_name"] for row in found] == names
    assert [Path(path).name for _, path, _ in record.checkpoints] == (names if saves else [])
    for number, path, row in record.checkpoints:
        assert row["rank"] == 0
        manifest = manifests.read(path)
        assert json.loads(bytes(manifest.metrics))["rank"] == 0
        assert {part.rank for part in manifest.parts} == (set(saves) if len(saves) > 1 else set())
        assert set(os.listdir(path)) == {".milepost.json", "step", *(f"of{r}" for r in saves)}
        assert Path(path, "step").read_text() == str(number + 1)
    if judged:
        assert [said for said in notes.said if said[0] == "result"] == [
            ("result", "t0", number) for number in (1, 2, 3)
        ]


@pytest.mark.parametrize("dies", [(0, 2), (1, 2), (1, 3)])
def test_all_begin_again_when_one_dies(tmp_path: Path, dies: tuple[int, int]) -> None:
    """From the newest checkpoint that is whole; each result counts once."""
    outcome = run_plan(
        tmp_path,
        train,
        [{"saves": (0, 1), "dies": dies, "mark": str(tmp_path / "mark")}],
        **PAIR,
        failure=FailureConfig(max_failures=1),
    )
    (record,) = outcome.trials
    assert record.status == "TERMINATED", record.error
    assert record.failures == 1
    found = rows(record)
    assert [row["step"] for row in found] == [1, 2, 3]
    pids = [row["pid_"] for row in found]
    assert len(set(pids)) == 2
    assert pids.index(pids[-1]) == dies[1] - 1, "from the step at which it died"


def shared(config: dict[str, Any]) -> None:
    """One rank saves; all see the same afterwards."""
    assert tune.get_checkpoint() is None
    for step in (1, 2):
        tune.report({"x": step}, checkpoint=part(step=str(step)) if rank() == 1 else None)
        assert begun() == step
        found = tune.get_checkpoint()
        assert found is not None
        Path(config["out"], f"{rank()}-{step}").write_text(found.path)


def test_all_see_the_same_checkpoint(tmp_path: Path) -> None:
    """Also those that have no part of it."""
    (record,) = run_plan(tmp_path, shared, [{"out": str(tmp_path)}], **PAIR).trials
    assert record.status == "TERMINATED", record.error
    for step, (_, path, _) in enumerate(record.checkpoints, 1):
        assert {Path(tmp_path, f"{each}-{step}").read_text() for each in range(2)} == {path}


def last(config: dict[str, Any]) -> None:
    """Rank 1 is always the last to tell of a report on which all have agreed."""
    current = session._session
    assert current is not None
    decision = current._dialog.decision
    for step in (1, 2, 3):
        told = Path(config["mark"] + str(step))

        def late(message: Any, told: Path = told) -> Any:
            while not told.exists():
                time.sleep(0.005)
            return decision(message)

        if rank() == 1:
            current._dialog.decision = late
        tune.report({"step": step}, checkpoint=part(step=str(step)) if rank() == 0 else None)
        if rank() == 0:
            told.touch()


def test_whoever_was_first_is_told_that_a_report_is_on_record(tmp_path: Path) -> None:
    """It waits for that before its next checkpoint, and nothing else would wake it."""
    configs = [{"mark": str(tmp_path / "told")}]
    (record,) = run_plan(tmp_path, last, configs, **PAIR, search=Deaf(configs)).trials
    assert record.status == "TERMINATED", record.error
    assert [row["step"] for row in rows(record)] == [1, 2, 3]


def slow(config: dict[str, Any]) -> None:
    """Rank 1 dies when both have called their second report, and rank 0 has yet to capture."""
    current = session._session
    assert current is not None
    capture = current._captures.capture

    def slowly(*args: Any, **kwargs: Any) -> Any:
        if not mark.exists():
            mark.touch()
            os.kill(int(pid.read_text()), signal.SIGKILL)
            time.sleep(0.5)  # it takes so long, for a reason of its own
        return capture(*args, **kwargs)

    mark, pid = Path(config["mark"]), Path(config["mark"] + "-pid")
    pid.write_text(str(os.getpid())) if rank() == 1 else None
    for step in range(begun() + 1, 4):
        with open(config["mark"] + f"-steps-{rank()}", "a") as steps:
            steps.write(str(step))
        if rank() == 0 and step == 2:
            current._captures.capture = slowly
        tune.report({"step": step}, checkpoint=part(step=str(step)) if rank() == 0 else None)


def test_a_report_that_all_have_called_is_completed(tmp_path: Path) -> None:
    """Its checkpoint is committed although one worker has died, and is where all go on."""
    notes = Notes()
    (record,) = run_plan(
        tmp_path,
        slow,
        [{"mark": str(tmp_path / "mark")}],
        **PAIR,
        failure=FailureConfig(max_failures=1),
        callbacks=[notes],
    ).trials
    assert record.status == "TERMINATED", record.error
    assert record.failures == 1
    assert [row["step"] for row in rows(record)] == [1, 2, 3]
    for each in range(2):
        steps = Path(tmp_path, f"mark-steps-{each}").read_text()
        assert steps.count("2") == 1, "a step that was saved is not done again"


def uneven(config: dict[str, Any]) -> None:
    for _ in range(1 + (rank() == config["more"])):
        tune.report({"x": 1})


@pytest.mark.parametrize("more", [0, 1])
def test_uneven_calls_end_with_an_error(tmp_path: Path, more: int) -> None:
    """The one that waits is told for whom."""
    outcome = run_plan(tmp_path, uneven, [{"more": more}], **PAIR)
    (record,) = outcome.trials
    assert record.status == "ERROR"
    assert isinstance(record.error, CollectiveError)
    assert f"rank {more} waits in tune.report() for rank {1 - more}, whose training" in str(
        record.error
    )
    assert len(rows(record)) == 1


def silent(config: dict[str, Any]) -> None:
    tune.report({"x": 1})
    if rank() == 1:
        signal.pause()
    tune.report({"x": 2})


def test_a_silent_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the limit, which the log announces before."""
    monkeypatch.setenv("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "1")
    outcome = run_plan(tmp_path, silent, **PAIR)
    (record,) = outcome.trials
    assert isinstance(record.error, CollectiveError)
    assert "rank 0 waits in tune.report() for rank 1, which did not call it" in str(record.error)


def both(config: dict[str, Any]) -> None:
    tune.report({"x": 1}, checkpoint=part(model=str(rank())))
    tune.get_checkpoint()


def waits(config: dict[str, Any]) -> None:
    name = {0: "model", 1: "model", 2: None}[rank()]
    tune.report({"x": 1}, checkpoint=part(**{name: str(rank())}) if name else None)
    try:
        tune.get_checkpoint()
    except Exception as error:
        Path(config["out"], str(rank())).write_text(str(error))
        raise


def test_all_are_told_of_a_failure(tmp_path: Path) -> None:
    """A worker without a part waits for the commit too, and not for ever."""
    three = {
        "group": Group(lambda config: 2),
        "resources": lambda config: placement_group_of(
            tune.PlacementGroupFactory([{"CPU": 0.5}] * 3)
        ),
    }
    (record,) = run_plan(tmp_path, waits, [{"out": str(tmp_path)}], **three).trials
    assert record.status == "ERROR"
    assert "both captured 'model'" in str(record.error)


def test_the_same_name_with_other_bytes(tmp_path: Path) -> None:
    """Nothing of it is published."""
    outcome = run_plan(tmp_path, both, **PAIR)
    (record,) = outcome.trials
    assert record.status == "ERROR"
    assert "workers 0 and 1 both captured 'model'" in str(record.error)
    assert record.checkpoints == []
    assert not [name for name in os.listdir(record.directory) if name.startswith("checkpoint")]

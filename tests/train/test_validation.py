"""Reported checkpoints are validated in processes of their own, while training goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from loops import begun_after, check, part, rank, saves, trainer

import milepost
from milepost import train, tune
from milepost.train import (
    CheckpointConsistencyMode,
    ReportedCheckpointStatus,
    Result,
    ValidationConfig,
    ValidationTaskConfig,
)

COMMITTED = CheckpointConsistencyMode.COMMITTED
BEST = {"num_to_keep": 1, "checkpoint_score_attribute": "score"}


def validating(**kwargs: Any) -> ValidationConfig:
    return ValidationConfig(check, ValidationTaskConfig(kwargs))


def outcomes(path: Path) -> list[tuple[int, str, dict[str, Any]]]:
    """What the run's record says: step, status and metrics of each validation."""
    from milepost.journal import rebuild
    from milepost.storage import codec

    (trial,) = rebuild.image(str(path)).trials.values()
    return [
        (index, each.outcome.status, codec.preview(each.outcome.metrics))
        for index, each in sorted(trial.committed.items())
        if each.outcome is not None
    ]


def passes(gate: Path, steps: int) -> None:
    """Let the validations of so many steps go on, one after the other."""
    for step in range(steps):
        Path(f"{gate}-{step}").open("w").close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A step's validation begins to wait there, and goes on when it has passed."""
    for step in range(3):
        os.mkfifo(tmp_path / f"gate-{step}")
    return tmp_path / "gate"


def test_training_goes_on_meanwhile(tmp_path: Path, gate: Path) -> None:
    """All stay that are pending; then what the validations say decides which are kept."""

    def loop(config: dict[str, Any]) -> list[Any]:
        saves(config)
        before = train.get_all_reported_checkpoints(COMMITTED)
        in_vain = train.get_all_reported_checkpoints(timeout_s=0.01)
        train.collective.barrier()
        if rank() == 0:
            passes(gate, 3)
        after = train.get_all_reported_checkpoints()
        asked = before, in_vain, after
        return [[(each.status.name, each.metrics) for each in found] for found in asked]

    result = trainer(
        tmp_path, loop, keep=BEST, validation_config=validating(gate=str(gate), plus=0.5)
    ).fit()
    before, in_vain, after = result.return_value
    pending = ReportedCheckpointStatus.PENDING_VALIDATION.name
    assert before == in_vain == [(pending, {"step": step, "loss": 5}) for step in range(3)]
    assert after == [
        ("VALIDATED", {"step": 2, "loss": 2.5, "score": -1}),
        ("VALIDATED", {"step": 1, "loss": 1.5, "score": 0}),
    ]
    for found in (result, Result.from_path(result.path)):
        assert (found.metrics["step"], found.metrics["score"], found.metrics["loss"]) == (
            2,
            -1,
            2.5,
        )
        assert {row["score"] for _, row in found.best_checkpoints} >= {0}
        assert found.get_best_checkpoint("score", "max").path.endswith("checkpoint_000001")
        assert found.checkpoint.path.endswith("checkpoint_000002")
    assert len(result.best_checkpoints) == 1
    assert sorted(path.name[-1] for path in Path(result.path).glob("checkpoint_*")) == ["1", "2"]


#: What the log says of a validation that fails in some way.
FAILURES = {
    "raise": "KeyError: 'broken'",
    "leave": "its process died: exit code 3",
    "kill": r"its process died: signal 9 \(SIGKILL\)",
    "end": r"its process died: signal 15 \(SIGTERM\)",
    "text": "must return a dict of metrics by name",
    "lock": "cannot pickle '_thread.lock'",
    "ours": "'training_iteration', which every row has",
    "hang": r"took longer than 0.2 s \(timeout_s\)",
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.always("raise", "kill", "hang")
def test_failures(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A validation that fails is in the log; its checkpoint stays as it was, and others follow."""
    status = "VALIDATION_TIMEOUT" if how == "hang" else "VALIDATION_FAILED"
    config = ValidationConfig(
        check, ValidationTaskConfig({"fails": 1, "how": how}, timeout_s=0.2 if how == "hang" else 9)
    )
    result = trainer(tmp_path, saves, validation_config=config).fit()
    found = outcomes(tmp_path / "run")
    assert [each for _, each, _ in found] == ["VALIDATED", status, "VALIDATED"]
    assert found[1][2] == {}
    assert ["score" in row for _, row in result.best_checkpoints] == [True, False, True]
    (line,) = [each.getMessage() for each in caplog.records if "has failed" in each.getMessage()]
    assert "checkpoint 000001" in line
    assert re.search(FAILURES[how], line)


@pytest.mark.chaos
def test_which_arguments_and_limits_count(tmp_path: Path) -> None:
    """Those of a report are laid over the defaults; its limit of time is its own, be it none."""

    def loop() -> None:
        for task in (True, ValidationTaskConfig({"plus": 2}), ValidationTaskConfig(timeout_s=9)):
            train.report({}, checkpoint=part(step="1"), validation=task)
        train.report({}, checkpoint=part(step="1"))

    config = ValidationConfig(check, ValidationTaskConfig({"plus": 1}, timeout_s=5))
    trainer(tmp_path, loop, workers=1, validation_config=config).fit()
    found = [row["loss"] for _, _, row in outcomes(tmp_path / "run")]
    assert found == [2, 3, 2]
    from milepost.checkpoint import verify

    tasks = [manifest.task for _, manifest in verify.committed(str(tmp_path / "run"))]
    assert [task and task.timeout_s for task in tasks] == [5, None, 9, None]


def test_the_lowest_rank_counts(tmp_path: Path) -> None:
    """Of those that bring a part of the checkpoint."""

    def loop() -> None:
        for asks in (1, 2):
            mine = part(**{"step" if rank() == 1 else "other": "1"}) if rank() else None
            train.report({}, checkpoint=mine, validation=rank() == asks)

    trainer(tmp_path, loop, workers=3, validation_config=validating()).fit()
    assert [index for index, _, _ in outcomes(tmp_path / "run")] == [0]


def test_arguments_of_report(tmp_path: Path) -> None:
    """What cannot be is an error of the call, and training may go on."""

    def loop(config: dict[str, Any]) -> None:
        def refused(error: type[Exception], said: str, *given: Any) -> None:
            with pytest.raises(error, match=said):
                train.report({}, *given[:1], validation=given[1])

        one = part(step="1")
        refused(TypeError, "must be True or False", one, "yes")
        refused(ValueError, "has no checkpoint to validate", None, True)
        if not config["has_function"]:
            refused(ValueError, r"validation_config=ValidationConfig\(fn\)", one, True)
            return
        lock = ValidationTaskConfig({"lock": threading.Lock()})
        refused(TypeError, "cannot be sent to its process", one, lock)
        train.report({"fine": 1}, checkpoint=one, validation=False)

    for number, config in enumerate([None, validating()]):
        trainer(
            tmp_path,
            loop,
            workers=1,
            run={"name": f"run-{number}"},
            validation_config=config,
            train_loop_config={"has_function": config is not None},
        ).fit()


def test_arguments_of_trainers(tmp_path: Path) -> None:
    """They are checked where they are written."""
    with pytest.raises(TypeError, match=r"validation_config must be a ValidationConfig"):
        trainer(tmp_path, saves, validation_config=check)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="The validation function or its arguments"):
        trainer(tmp_path, saves, validation_config=ValidationConfig(lambda checkpoint: lock))


@pytest.fixture
def two_cpus() -> Any:
    """A machine with two CPUs."""
    milepost.shutdown()
    milepost.init(num_cpus=2)
    yield
    milepost.shutdown()


@pytest.mark.usefixtures("two_cpus")
def test_resources(tmp_path: Path) -> None:
    """What fits beside the workers runs; what never does is an error of ``fit``."""
    config = ValidationConfig(check, ray_remote_kwargs={"num_cpus": 1, "resources": {}})
    result = trainer(tmp_path, saves, validation_config=config).fit()
    assert result.metrics["score"] == -1
    config = ValidationConfig(check, ray_remote_kwargs={"num_cpus": 1.5})
    with pytest.raises(train.ControllerError, match=r"(?s)validation of its checkpoints.*CPU 1.5"):
        trainer(tmp_path, saves, validation_config=config, run={"name": "other"}).fit()


def test_a_restart_disturbs_none(tmp_path: Path, gate: Path) -> None:
    """What is under way when the workers fail goes on, and is done once."""

    def loop(config: dict[str, Any]) -> None:
        first = begun_after()
        for step in range(first, 2):
            train.report({"step": step}, checkpoint=part(step=str(step)), validation=True)
            train.get_checkpoint()
            if first == 0:
                raise KeyError("once")
        passes(gate, 2)

    log = tmp_path / "log"
    config = validating(gate=str(gate), log=str(log))
    trainer(tmp_path, loop, workers=1, max_failures=1, validation_config=config).fit()
    assert log.read_text() == "01"
    assert [status for _, status, _ in outcomes(tmp_path / "run")] == ["VALIDATED"] * 2


@pytest.mark.chaos
def test_a_failed_run_has_them_too(tmp_path: Path) -> None:
    """Its error comes when all is validated."""

    def loop() -> None:
        saves({})
        raise KeyError("at the end")

    with pytest.raises(train.WorkerGroupError):
        trainer(tmp_path, loop, validation_config=validating()).fit()
    assert len(outcomes(tmp_path / "run")) == 3
    assert Result.from_path(str(tmp_path / "run")).metrics["score"] == -1


def test_here(tmp_path: Path) -> None:
    """Where training runs in this process, validations have processes of their own all the same."""

    def loop() -> list[Any]:
        saves({})
        return [each.status for each in train.get_all_reported_checkpoints()]

    config = ValidationConfig(lambda checkpoint: {"process": os.getpid()})
    result = trainer(tmp_path, loop, workers=0, validation_config=config).fit()
    assert result.return_value == [ReportedCheckpointStatus.VALIDATED] * 3
    assert result.metrics["process"] != os.getpid()


@pytest.mark.chaos
def test_tuned(tmp_path: Path) -> None:
    """Each trial's checkpoints are validated, and results have what that said."""
    one = trainer(tmp_path, saves, workers=1, validation_config=validating())
    results = tune.Tuner(
        one,
        param_space={"train_loop_config": {"x": tune.grid_search([1, 2])}},
        run_config=tune.RunConfig(name="tuned", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert [result.metrics["score"] for result in results] == [-1, -1]
    assert {row["score"] for result in results for _, row in result.best_checkpoints} == {-1, 0}


@pytest.mark.chaos
def test_the_same_after_a_rebuild(tmp_path: Path) -> None:
    """The run's directory has all outcomes, also without its journal."""
    trainer(tmp_path, saves, validation_config=validating()).fit()
    before = outcomes(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / ".milepost" / "journal")
    result = trainer(tmp_path, saves, keep=BEST, validation_config=validating()).fit()
    assert outcomes(tmp_path / "run") == before[1:]
    assert [row["score"] for _, row in result.best_checkpoints] == [0]


@pytest.mark.chaos
@pytest.mark.preloading("torch")
@pytest.mark.timeout(150)
def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its example keeps the best of six checkpoints, by what the validation says."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = text.partition("\n## Validation\n")[2].partition("\n## ")[0]
    code, *_ = section.partition("```python\n")[2].partition("```")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "training.md", "exec"), names)
    accuracies = [row["accuracy"] for _, _, row in outcomes(Path(names["result"].path))]
    ((_, best),) = names["result"].best_checkpoints
    assert best["accuracy"] == max(accuracies) > 0.5


def interrupted(checkpoint: train.Checkpoint) -> dict[str, int]:
    """Somebody sends Ctrl-C to every process; the driver alone decides what that means."""
    os.kill(os.getpid(), signal.SIGINT)
    return {"score": 7}


def test_an_interrupt_of_its_process(tmp_path: Path) -> None:
    """It is no failure of the validation."""

    def loop(config: dict[str, Any]) -> None:
        train.report({"step": 1}, checkpoint=part(step="1"), validation=True)

    made = trainer(tmp_path, loop, 1, validation_config=ValidationConfig(interrupted))
    assert made.fit().metrics["score"] == 7

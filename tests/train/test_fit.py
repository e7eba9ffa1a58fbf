"""Training runs: what comes of them, and what becomes of failures."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from loops import begun, part, rank, steps, trainer

import milepost
from milepost import train, tune
from milepost.train import CheckpointUploadMode, Result, collective
from milepost.train.error import (
    CollectiveError,
    CollectiveTimeoutError,
    InsufficientClusterResourcesError,
)


def test_what_a_run_leaves(tmp_path: Path) -> None:
    """One result of all workers, checkpoints in the run's own directory, and the return value."""
    result = trainer(tmp_path, train_loop_config={"steps": 3}).fit()
    assert result.error is None
    assert (result.metrics["step"], result.metrics["rank"]) == (3, 0)
    assert result.path == str(tmp_path / "run")
    assert result.checkpoint.path == str(tmp_path / "run" / "checkpoint_000002")
    assert [row["step"] for _, row in result.best_checkpoints] == [1, 2, 3]
    assert list(result.metrics_dataframe["step"]) == [1, 2, 3]
    assert result.return_value == 0
    with pytest.raises(DeprecationWarning, match="train_loop_config"):
        _ = result.config


def test_a_result_from_its_directory(tmp_path: Path) -> None:
    """It says what ``fit`` has said, but for what the function returned."""
    made = trainer(tmp_path).fit()
    read = Result.from_path(str(tmp_path / "run"))
    assert (read.metrics["step"], read.metrics["loss"]) == (3, made.metrics["loss"])
    assert read.checkpoint.path == made.checkpoint.path
    assert [(c.path, row["step"]) for c, row in read.best_checkpoints] == [
        (c.path, row["step"]) for c, row in made.best_checkpoints
    ]
    assert read.return_value is None


def test_the_context(tmp_path: Path) -> None:
    """Each worker knows who it is."""

    def loop(config: dict[str, Any]) -> None:
        context = train.get_context()
        Path(config["out"], str(context.get_world_rank())).write_text(
            f"{context.get_world_size()} {context.get_local_rank()} "
            f"{context.get_local_world_size()} {context.get_node_rank()} "
            f"{context.get_experiment_name()} {context.get_storage().experiment_fs_path}"
        )

    trainer(tmp_path, loop, workers=3, train_loop_config={"out": str(tmp_path)}).fit()
    for each in range(3):
        said = Path(tmp_path, str(each)).read_text().split()
        assert said == ["3", str(each), "3", "0", "run", str(tmp_path / "run")]


def test_together(tmp_path: Path) -> None:
    """A barrier, what rank 0 broadcasts, and its return value."""

    def loop() -> list[Any]:
        seen = []
        for number in range(3):
            collective.barrier()
            seen.append(collective.broadcast_from_rank_zero((rank(), number)))
        train.report({"same": seen == [(0, 0), (0, 1), (0, 2)]})
        return seen

    result = trainer(tmp_path, loop).fit()
    assert result.metrics["same"]
    assert result.return_value == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("how", ["raise", "kill"])
@pytest.mark.parametrize("dies", [(0, 2), (1, 2), (1, 1)])
@pytest.mark.always("dies0-raise", "dies1-kill")
def test_workers_start_again(tmp_path: Path, how: str, dies: tuple[int, int]) -> None:
    """From the latest committed checkpoint, whichever worker has failed."""
    config = {"steps": 3, "dies": dies, "how": how, "mark": str(tmp_path / "mark")}
    result = trainer(tmp_path, train_loop_config=config, max_failures=1).fit()
    assert list(result.metrics_dataframe["step"]) == [1, 2, 3]
    assert result.return_value == dies[1] - 1


def test_the_error_has_the_workers(tmp_path: Path) -> None:
    """By rank, and what was committed before is kept."""
    config = {"dies": (1, 2), "how": "raise", "mark": str(tmp_path / "mark")}
    with pytest.raises(train.WorkerGroupError, match=r"(?s)\[rank 1\] .*KeyError") as caught:
        trainer(tmp_path, train_loop_config=config).fit()
    assert isinstance(caught.value, train.TrainingFailedError)
    assert list(caught.value.worker_failures) == [1]
    assert isinstance(caught.value.worker_failures[1], KeyError)
    found = Result.from_path(str(tmp_path / "run"))
    assert found.metrics["step"] == 1
    assert found.checkpoint.path.endswith("checkpoint_000000")
    assert found.error is not None


@pytest.mark.parametrize("fail_fast", [True, "raise"])
def test_failing_fast(tmp_path: Path, fail_fast: Any) -> None:
    """The first failure ends the run, with the same error as any other."""
    config = {"dies": (1, 2), "how": "raise", "mark": str(tmp_path / "mark")}
    run = train.RunConfig(
        name="run",
        storage_path=str(tmp_path),
        verbose=0,
        failure_config=train.FailureConfig(fail_fast=fail_fast),
    )
    one = train.DataParallelTrainer(
        steps,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=run,
    )
    with pytest.raises(train.WorkerGroupError) as caught:
        one.fit()
    assert list(caught.value.worker_failures) == [1]
    assert run.failure_config.fail_fast == fail_fast


def test_a_killed_worker(tmp_path: Path) -> None:
    """The error names its process and the signal."""
    config = {"dies": (0, 1), "how": "kill", "mark": str(tmp_path / "mark")}
    with pytest.raises(train.WorkerGroupError, match=r"rank 0.*SIGKILL"):
        trainer(tmp_path, train_loop_config=config).fit()


def test_the_same_name_goes_on(tmp_path: Path) -> None:
    """Also after an end, with another config; another function may go on as well."""
    trainer(tmp_path, train_loop_config={"steps": 2}).fit()
    result = trainer(tmp_path, train_loop_config={"steps": 4}).fit()
    assert result.return_value == 2
    assert list(result.metrics_dataframe["step"]) == [1, 2, 3, 4]

    def other() -> int:
        return begun() + 100

    assert trainer(tmp_path, other).fit().return_value == 104


def test_a_failed_run_goes_on(tmp_path: Path) -> None:
    """From where it was."""
    config = {"dies": (1, 3), "how": "kill", "mark": str(tmp_path / "mark"), "steps": 3}
    with pytest.raises(train.WorkerGroupError):
        trainer(tmp_path, train_loop_config=config).fit()
    assert trainer(tmp_path, train_loop_config=config).fit().return_value == 2


def test_failures_count_for_each_fit(tmp_path: Path) -> None:
    """Those of earlier runs of the name do not."""

    def config(number: int) -> dict[str, Any]:
        mark = str(tmp_path / f"mark-{number}")
        return {"steps": number + 1, "dies": (1, number + 1), "how": "raise", "mark": mark}

    with pytest.raises(train.WorkerGroupError):
        trainer(tmp_path, train_loop_config=config(1)).fit()
    for number in (2, 3):
        result = trainer(tmp_path, train_loop_config=config(number), max_failures=1).fit()
        assert result.metrics["step"] == number + 1
    with pytest.raises(train.WorkerGroupError):
        trainer(tmp_path, train_loop_config=config(4)).fit()


def test_restore(tmp_path: Path) -> None:
    """Everything is as recorded; what is given counts; the directory may have been moved."""
    first = trainer(tmp_path, train_loop_config={"steps": 2}, keep={"num_to_keep": 2})
    first.fit()
    os.rename(tmp_path / "run", tmp_path / "moved")
    kind = train.DataParallelTrainer
    assert kind.can_restore(str(tmp_path / "moved"))
    assert not kind.can_restore(str(tmp_path / "run"))
    again = kind.restore(str(tmp_path / "moved"))
    assert again.scaling_config.num_workers == 2
    assert again.run_config.checkpoint_config.num_to_keep == 2
    assert again.fit().return_value == 2
    more = kind.restore(
        str(tmp_path / "moved"),
        train_loop_per_worker=steps,
        train_loop_config={"steps": 3},
        scaling_config=train.ScalingConfig(num_workers=1),
    )
    result = more.fit()
    assert (result.return_value, result.metrics["step"]) == (2, 3)
    assert result.path == str(tmp_path / "moved")


def test_what_cannot_be_restored(tmp_path: Path) -> None:
    """Each says what is there."""
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        train.DataParallelTrainer.restore(str(tmp_path / "nothing"))
    tune.Tuner(
        lambda config: None,
        run_config=tune.RunConfig(name="t", storage_path=str(tmp_path), verbose=0),
    ).fit()
    with pytest.raises(ValueError, match="holds a tuning run"):
        train.DataParallelTrainer.restore(str(tmp_path / "t"))
    with pytest.raises(train.ControllerError, match="holds a tuning run"):
        trainer(tmp_path, run={"name": "t"}).fit()


def test_a_checkpoint_to_start_from(tmp_path: Path) -> None:
    """As long as the run has none of its own."""
    start = part(step="5")
    one = trainer(tmp_path, resume_from_checkpoint=start, train_loop_config={"steps": 6})
    assert one.fit().return_value == 5
    assert one.fit().return_value == 6


def test_names_that_are_not_given(tmp_path: Path) -> None:
    """Two runs of one second have directories of their own; a second fit() goes on."""
    makers = [trainer(tmp_path, run={"name": None}) for _ in range(2)]
    paths = [maker.fit().path for maker in makers]
    assert len(set(paths)) == 2
    assert makers[0].fit().path == paths[0]


class Notes(train.UserCallback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[Any] = []
        self.failures: list[Any] = []

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        committed = None if checkpoint is None else Path(checkpoint.path, "step").read_text()
        self.reports.append(([each["rank"] for each in metrics], metrics[0]["step"], committed))
        assert set(metrics[0]) == {"step", "rank", "loss"}

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        self.failures.append({rank: type(error) for rank, error in worker_exceptions.items()})


def test_callbacks(tmp_path: Path) -> None:
    """They see the metrics of all workers, after the commit, and failures before a restart."""
    notes = Notes()
    config = {"dies": (1, 2), "how": "raise", "mark": str(tmp_path / "mark"), "steps": 3}
    trainer(tmp_path, train_loop_config=config, max_failures=1, run={"callbacks": [notes]}).fit()
    assert notes.reports == [([0, 1], step, str(step)) for step in (1, 2, 3)]
    (failure,) = notes.failures
    assert issubclass(failure[1], KeyError)


class OfEnvironment(train.UserCallback):
    """Made without arguments."""

    made: ClassVar[list[OfEnvironment]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.reports = 0

    def after_report(self, *about: Any) -> None:
        self.reports += 1


def test_callbacks_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told as well; a bad name ends the call."""
    monkeypatch.setenv("RAY_TRAIN_CALLBACKS", f"{__name__}.OfEnvironment")
    trainer(tmp_path, train_loop_config={"steps": 2}).fit()
    assert [each.reports for each in OfEnvironment.made] == [2]
    monkeypatch.setenv("RAY_TRAIN_CALLBACKS", f"{__name__}.Nothing")
    with pytest.raises(ValueError, match=r"RAY_TRAIN_CALLBACKS names .*Nothing.* cannot be made"):
        trainer(tmp_path).fit()


@pytest.mark.parametrize(("level", "told"), [("ERROR", False), ("info", True), (None, True)])
def test_how_much_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: str | None, told: bool
) -> None:
    """As ``logging_config`` says, and as before afterwards."""
    logger = logging.getLogger("milepost")
    before = logger.level

    class Says(train.UserCallback):
        def after_report(self, *about: Any) -> None:
            logging.getLogger("milepost.control").warning("something")

    config = None if level is None else train.LoggingConfig(level)
    run = {"callbacks": [Says()], "logging_config": config}
    trainer(tmp_path, train_loop_config={"steps": 1}, run=run).fit()
    assert ("something" in caplog.text) == told
    assert logger.level == before


def test_a_callback_that_fails(tmp_path: Path) -> None:
    """It ends the run, which is not tried again."""

    class Fails(train.UserCallback):
        def after_report(self, *about: Any) -> None:
            raise ValueError("not like this")

    with pytest.raises(train.ControllerError, match="not like this") as caught:
        trainer(tmp_path, max_failures=-1, run={"callbacks": [Fails()]}).fit()
    assert isinstance(caught.value.controller_failure, ValueError)
    assert trainer(tmp_path).fit().error is None


@pytest.mark.parametrize("more", [0, 1])
def test_uneven_reports(tmp_path: Path, more: int) -> None:
    """Whoever waits is told for whom."""

    def loop() -> None:
        for _ in range(1 + (rank() == more)):
            train.report({"a": 1})

    with pytest.raises(
        train.WorkerGroupError, match=f"rank {more} waits in train.report"
    ) as caught:
        trainer(tmp_path, loop).fit()
    assert isinstance(caught.value.worker_failures[more], CollectiveError)


def test_a_silent_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named within the limit."""
    monkeypatch.setenv("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "1")

    def loop() -> None:
        import signal

        if rank() == 0:
            signal.pause()
        collective.barrier()

    with pytest.raises(train.WorkerGroupError, match="for rank 0, which did not call") as caught:
        trainer(tmp_path, loop).fit()
    assert isinstance(caught.value.worker_failures[1], CollectiveTimeoutError)
    assert isinstance(caught.value.worker_failures[1], TimeoutError)


def test_different_calls(tmp_path: Path) -> None:
    """One reports while the other waits for a broadcast."""

    def loop() -> None:
        if rank() == 0:
            train.report({"a": 1})
        else:
            collective.broadcast_from_rank_zero(1)

    with pytest.raises(train.WorkerGroupError, match="in the same order, and equally often"):
        trainer(tmp_path, loop).fit()


def test_the_same_file_with_other_bytes(tmp_path: Path) -> None:
    """Nothing is published."""

    def loop() -> None:
        train.report({"a": 1}, checkpoint=part(model=str(rank())))

    with pytest.raises(train.TrainingFailedError, match="both captured 'model'"):
        trainer(tmp_path, loop).fit()
    assert not list((tmp_path / "run").glob("checkpoint_*"))


def test_modes(tmp_path: Path) -> None:
    """SYNC returns when the checkpoint is durable; ASYNC takes the directory away."""

    def loop(config: dict[str, Any]) -> None:
        run = Path(train.get_context().get_storage().experiment_fs_path)
        sync, later, given = part(a="1"), part(a="2"), part(a="3")
        train.report({}, checkpoint=sync, checkpoint_upload_mode=CheckpointUploadMode.SYNC)
        assert (run / "checkpoint_000000" / "a").read_text() == "1"
        assert Path(sync.path, "a").exists()
        train.report({}, checkpoint=later, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)
        assert not Path(later.path).exists()
        train.report({}, checkpoint=given, delete_local_checkpoint_after_upload=True)
        assert not Path(given.path).exists()
        found = train.get_checkpoint()
        assert found is not None
        assert Path(found.path, "a").read_text() == "3"
        with pytest.raises(ValueError, match="in which the run's own directory is"):
            train.report(
                {},
                checkpoint=train.Checkpoint.from_directory(str(run.parent)),
                delete_local_checkpoint_after_upload=True,
            )

    trainer(tmp_path, loop, workers=1, train_loop_config={}).fit()


def test_what_returns_cannot_travel(tmp_path: Path) -> None:
    """The error says what to do instead."""

    def loop() -> Any:
        return (each for each in range(3))

    with pytest.raises(train.WorkerGroupError, match="cannot be sent to the driver"):
        trainer(tmp_path, loop).fit()


def test_environment_of_workers(tmp_path: Path) -> None:
    """What ``worker_runtime_env`` sets is set."""

    def loop() -> str:
        return os.environ["OF_WORKERS"]

    run = {"worker_runtime_env": {"env_vars": {"OF_WORKERS": "yes"}}}
    assert trainer(tmp_path, loop, run=run).fit().return_value == "yes"
    assert "OF_WORKERS" not in os.environ


def test_stopping(tmp_path: Path) -> None:
    """A stop condition ends all workers at the same report."""
    result = trainer(
        tmp_path, train_loop_config={"steps": 10}, run={"stop": {"training_iteration": 2}}
    ).fit()
    assert result.metrics["step"] == 2
    assert result.checkpoint.path.endswith("checkpoint_000001")


def test_all_checkpoints_of_a_run(tmp_path: Path) -> None:
    """Every worker sees those that are kept, the best one last, with what was reported."""

    def loop(config: dict[str, Any]) -> None:
        for loss in (0.3, 0.1, 0.2):
            train.report({"loss": loss}, checkpoint=part(step="0") if rank() == 0 else None)
            found = train.get_all_reported_checkpoints(timeout_s=60 if rank() else None)
            assert max(each.checkpoint.path for each in found) == train.get_checkpoint().path
        assert [each.metrics for each in found] == [{"loss": 0.2}, {"loss": 0.1}]
        assert {each.status for each in found} == {train.ReportedCheckpointStatus.COMMITTED}
        Path(config["out"], str(rank())).touch()
        with pytest.raises(TypeError, match="must be a CheckpointConsistencyMode"):
            train.get_all_reported_checkpoints("COMMITTED")

    keep = {
        "num_to_keep": 2,
        "checkpoint_score_attribute": "loss",
        "checkpoint_score_order": "min",
    }
    trainer(tmp_path, loop, keep=keep, train_loop_config={"out": str(tmp_path)}).fit()
    assert Path(tmp_path, "0").exists()
    assert Path(tmp_path, "1").exists()


@pytest.mark.parametrize("damage", ["journal", "checkpoint", "half", "identity"])
def test_a_damaged_run_goes_on(tmp_path: Path, damage: str) -> None:
    """From the newest good checkpoint, with every row once."""
    trainer(tmp_path, train_loop_config={"steps": 3}).fit()
    run = tmp_path / "run"
    if damage == "journal":
        shutil.rmtree(run / ".milepost" / "journal")
    elif damage == "identity":
        (run / ".milepost" / "experiment.json").unlink()
    elif damage == "checkpoint":
        shutil.rmtree(run / "checkpoint_000002")
    else:
        (run / "checkpoint_000002" / "step").write_text("")
    result = trainer(tmp_path, train_loop_config={"steps": 4}).fit()
    begun_at = 3 if damage in ("journal", "identity") else 2
    assert result.return_value == begun_at
    assert (result.metrics["step"], begun_at) == (4, begun_at)
    assert list(result.metrics_dataframe["step"])[-1] == 4
    assert [row["step"] for _, row in result.best_checkpoints][-1] == 4


def test_another_score(tmp_path: Path) -> None:
    """All checkpoints are ranked anew, so that the best ones stay."""
    trainer(tmp_path, train_loop_config={"steps": 3}).fit()
    keep = {
        "num_to_keep": 2,
        "checkpoint_score_attribute": "loss",
        "checkpoint_score_order": "max",
    }
    result = trainer(tmp_path, train_loop_config={"steps": 4}, keep=keep).fit()
    assert [row["step"] for _, row in result.best_checkpoints] == [2, 1]
    assert result.checkpoint.path.endswith("checkpoint_000003")


@pytest.fixture
def two_cpus() -> Iterator[None]:
    """A machine with two CPUs."""
    milepost.shutdown()
    milepost.init(num_cpus=2)
    yield
    milepost.shutdown()


@pytest.mark.usefixtures("two_cpus")
def test_as_many_workers_as_fit(tmp_path: Path) -> None:
    """An elastic run takes the most that there is room for; a later one may have another number."""

    def loop() -> None:
        saved = None if rank() else part(step=str(begun() + 1))
        train.report({"workers": train.get_context().get_world_size()}, checkpoint=saved)

    def run(num_workers: Any) -> Any:
        return train.DataParallelTrainer(
            loop,
            scaling_config=train.ScalingConfig(num_workers=num_workers),
            run_config=train.RunConfig(name="run", storage_path=str(tmp_path), verbose=0),
        ).fit()

    assert [run(number).metrics["workers"] for number in ((1, 8), 1, (1, 2))] == [2, 1, 2]
    assert list(run(1).metrics_dataframe["workers"]) == [2, 1, 2, 1]
    with pytest.raises(train.ControllerError, match=r"(?s)no group of 3 .*CPU 3.*CPU 2") as caught:
        run((3, 9))
    assert isinstance(caught.value.controller_failure, InsufficientClusterResourcesError)

"""How ``Trainable`` classes run under a controller: each by a real worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from milepost.errors import CheckpointFailedError
from milepost.worker.context import get_context
from milepost.worker.protocol import Counters, Finished, Preempt, Reply, Saved, Shutdown, load
from milepost.worker.session import in_session, report
from milepost.worker.trainable import Trainable


class Count(Trainable):
    """Counts steps; its checkpoint is the count."""

    def setup(self, config: dict[str, Any], start: int = 0) -> None:
        self.count = start
        print("setup", config.get("x"), os.path.basename(os.getcwd()))

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count, **self.config.get("result", {})}

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        print("save", sorted(os.listdir(checkpoint_dir)))
        return {"count": self.count}

    def load_checkpoint(self, checkpoint: Any) -> None:
        print("load", checkpoint)
        self.count = checkpoint["count"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        print("reset", new_config)
        return bool(new_config.get("accept"))

    def cleanup(self) -> None:
        print("cleanup")


# Like a class of the user's script: sent by value.
def local(cls: type[Trainable], **members: Any) -> type[Trainable]:
    namespace = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (Trainable,), {**namespace, "__module__": "__main__", **members})


def until(iteration: int, *, save_every: int = 0, action: Any = "stop") -> Any:
    def decide(row: dict[str, Any]) -> Reply:
        n = row["training_iteration"]
        save = bool(save_every) and n % save_every == 0
        return Reply(action if n >= iteration else "continue", save)

    return decide


def kinds(worker: Any) -> list[str]:
    return [type(message).__name__ for message in worker.messages]


def test_messages_in_order(drive: Any) -> None:
    """setup, Started, steps, cleanup, Finished; rows have the class API's fields."""
    worker = drive(Count, kind="class").run({"x": 5}, decide=until(2))
    assert kinds(worker) == ["Started", "Reported", "Reported", "Finished"]
    assert worker.end == Finished("stop")
    assert worker.stdout == "setup 5 t1\ncleanup\n"
    assert worker.exited.exit_code == 0
    assert list(worker.rows[0]) == [
        *("count", "done", "training_iteration", "trial_id", "date", "timestamp"),
        *("time_this_iter_s", "time_total_s", "pid", "hostname", "node_ip", "time_since_restore"),
        "iterations_since_restore",
    ]
    assert [row["training_iteration"] for row in worker.rows] == [1, 2]


def test_timestamp_of_the_user_stays(drive: Any) -> None:
    """In the class API a timestamp of the user's is kept, an own trial id is not."""
    result = {"timestamp": 7, "trial_id": "mine", "training_iteration": 9}
    worker = drive(Count, kind="class").run({"result": result}, decide=until(1))
    row = worker.rows[0]
    assert (row["timestamp"], row["trial_id"], row["training_iteration"]) == (7, "t1", 9)


def test_save_and_restore(drive_with_keeper: Any, tmp_path: Path) -> None:
    """A save asked for with the answer is captured, committed, and what a later start loads."""
    driver = drive_with_keeper(Count, kind="class")
    worker = driver.run(decide=until(5, save_every=2))
    assert kinds(worker) == [
        *("Started", "Reported", "Reported", "Saved", "Reported", "Reported", "Saved"),
        *("Reported", "Finished"),
    ]
    assert [m.index for m in worker.messages if isinstance(m, Saved)] == [0, 1]
    assert worker.stdout == "setup None t1\nsave []\nsave []\ncleanup\n"
    driver.wait(lambda: len(driver.keeper_events) >= 2)
    paths = [event.path for event in driver.keeper_events]
    assert paths == [str(tmp_path / "exp" / "t1" / f"checkpoint_00000{i}") for i in (0, 1)]
    again = driver.run(
        decide=until(6),
        start_from=paths[1],
        first_index=2,
        counters=Counters(4, 10.0),
        attempt=1,
    )
    assert again.stdout == "setup None t1\nload {'count': 4}\ncleanup\n"
    assert [row["count"] for row in again.rows] == [5, 6]
    assert [row["training_iteration"] for row in again.rows] == [5, 6]
    assert [row["iterations_since_restore"] for row in again.rows] == [1, 2]
    assert again.rows[0]["time_total_s"] > 10
    assert list((tmp_path / "node").glob("staging/*/*")) == []


def test_pause_saves_first(drive_with_keeper: Any) -> None:
    """A pause with a save: captured before the worker says that it has paused."""
    driver = drive_with_keeper(Count, kind="class")
    worker = driver.run(decide=until(1, save_every=1, action="pause"))
    assert kinds(worker) == ["Started", "Reported", "Saved", "Finished"]
    assert worker.end == Finished("pause")


def test_an_end_of_the_run_during_a_save(drive_with_keeper: Any) -> None:
    """What it has just saved is what it will go on from: no further step is begun."""
    driver = drive_with_keeper(Count, kind="class")

    def decide(row: dict[str, Any]) -> Reply:
        if row["training_iteration"] == 2:
            worker.handle.channel.send(Preempt("SIGTERM"))
        return Reply("continue", save=True)

    worker = driver.start(decide)
    driver.send_trial(worker)
    driver.wait(lambda: worker.end is not None)
    assert kinds(worker) == ["Started", *["Reported", "Saved"] * 2, "Finished"]
    assert worker.end == Finished("stop")


def save_files(self: Any, checkpoint_dir: str) -> Any:
    with open(os.path.join(checkpoint_dir, "count"), "w") as file:
        file.write(str(self.count))
    return {"path": checkpoint_dir, "none": None, "other": "/tmp", "type": 5}[self.config["how"]]


def load_files(self: Any, checkpoint_dir: str) -> None:
    with open(os.path.join(checkpoint_dir, "count")) as file:
        self.count = int(file.read())


@pytest.mark.parametrize("how", ["path", "none"])
def test_directory_checkpoints(drive_with_keeper: Any, how: str) -> None:
    """Files written into the directory are the checkpoint, whether it is returned or not."""
    files = local(Count, save_checkpoint=save_files, load_checkpoint=load_files)
    driver = drive_with_keeper(files, kind="class")
    driver.run({"how": how}, decide=until(3, save_every=3))
    driver.wait(lambda: bool(driver.keeper_events))
    again = driver.run(
        {"how": how}, decide=until(1), start_from=driver.keeper_events[0].path, first_index=1
    )
    assert again.rows[0]["count"] == 4


@pytest.mark.parametrize(("how", "said"), [("other", "returned '/tmp'"), ("type", "returned int")])
def test_wrong_return_of_save_checkpoint(
    drive_with_keeper: Any, tmp_path: Path, how: str, said: str
) -> None:
    """Another path, or another type, fails the trial and leaves nothing behind."""
    driver = drive_with_keeper(local(Count, save_checkpoint=save_files), kind="class")
    worker = driver.run({"how": how}, decide=until(1, save_every=1))
    assert worker.end.kind == "ValueError"
    assert said in worker.end.message
    assert [path for path in (tmp_path / "node").glob("staging/*/*") if path.is_dir()] == []


def test_class_that_cannot_save(drive_with_keeper: Any) -> None:
    """A class without save_checkpoint fails when asked to save, and says what to do."""
    cannot = local(Count, save_checkpoint=Trainable.save_checkpoint)
    worker = drive_with_keeper(cannot, kind="class").run(decide=until(1, save_every=1))
    assert worker.end.kind == "NotImplementedError"
    assert "must define save_checkpoint()" in worker.end.message
    assert "scheduler that needs no checkpoints" in worker.end.message


def test_class_that_cannot_save_and_is_paused(drive_with_keeper: Any) -> None:
    """Told to pause, it says that it is the scheduler that wants it saved."""
    cannot = local(Count, save_checkpoint=Trainable.save_checkpoint)
    worker = drive_with_keeper(cannot, kind="class").run(
        decide=lambda row: Reply("pause", save=True)
    )
    assert worker.end.kind == "NotImplementedError"
    assert "The scheduler pauses this trial" in worker.end.message
    assert "save_checkpoint() and load_checkpoint()" in worker.end.message
    assert "checkpoint_frequency" not in worker.end.message, "which was not set"


def test_missing_checkpoint(drive: Any) -> None:
    """A start from a checkpoint that is gone fails, naming it."""
    worker = drive(Count, kind="class").run(start_from="/nowhere/checkpoint_000000")
    assert worker.end.kind == "ValueError"
    assert "/nowhere/checkpoint_000000" in worker.end.message
    assert "does not exist on storage anymore" in worker.end.message
    assert kinds(worker) == ["Failed"]


def fail(self: Any, *arguments: Any) -> Any:
    raise LookupError("on purpose")


@pytest.mark.parametrize("where", ["setup", "step", "save_checkpoint", "cleanup"])
def test_errors_of_user_code(drive_with_keeper: Any, where: str) -> None:
    """An error fails the trial, except in cleanup, where it is shown and changes nothing."""
    driver = drive_with_keeper(local(Count, **{where: fail}), kind="class")
    worker = driver.run(decide=until(1, save_every=1))
    if where == "cleanup":
        assert worker.end == Finished("stop")
        assert "on purpose" in worker.stderr
        assert worker.exited.exit_code == 0
        return
    assert worker.end.kind == "LookupError"
    assert isinstance(load(worker.end.error), LookupError)
    assert ("cleanup" in worker.stdout) == (where != "setup")


def test_step_must_return_a_dict(drive: Any) -> None:
    """Anything else is an AssertionError that says so."""
    worker = drive(local(Count, step=lambda self: 5), kind="class").run()
    assert worker.end.kind == "AssertionError"
    assert "step() needs to return a dict." in worker.end.message
    assert "int" in worker.end.message


def test_reuse(drive: Any, tmp_path: Path) -> None:
    """One object runs several trials through reset_config; cleanup waits for the worker's end."""
    driver = drive(Count, kind="class")
    worker = driver.start(until(1))
    driver.send_trial(worker, {"x": 1}, reusable=True)
    driver.wait(lambda: worker.end is not None)
    count = len(worker.messages)
    config = {"accept": 1}
    driver.send_trial(worker, config, trial_id="t2", reset=True, reusable=True)
    driver.wait(lambda: len(worker.messages) > count and worker.end is not None)
    driver.shut_down(worker)
    assert worker.stdout == f"setup 1 t1\nreset {config}\ncleanup\n"
    assert [row["trial_id"] for row in worker.rows] == ["t1", "t2"]
    assert [row["training_iteration"] for row in worker.rows] == [1, 1]
    assert worker.rows[1]["count"] == 2  # reset_config of this class keeps it


def test_reuse_must_be_supported(drive: Any) -> None:
    """reset_config that is not defined, or says no, fails the trial for good."""
    driver = drive(Count, kind="class")
    worker = driver.start(until(1))
    driver.send_trial(worker, {"x": 1}, reusable=True)
    driver.wait(lambda: worker.end is not None)
    driver.send_trial(worker, {"accept": 0}, reset=True)
    driver.wait(lambda: worker.end is not None and type(worker.end).__name__ == "Failed")
    assert worker.end.abort
    assert "reset_config() did not return True" in worker.end.message


def test_shutdown_in_the_middle(drive: Any) -> None:
    """A worker that is told to end in the middle of a trial cleans up and ends."""

    def decide(row: dict[str, Any]) -> Any:
        return Shutdown() if row["training_iteration"] == 2 else Reply("continue")

    driver = drive(Count, kind="class")
    worker = driver.start(decide)
    driver.send_trial(worker)
    driver.wait(lambda: worker.gone)
    assert worker.stdout.endswith("cleanup\n")
    assert worker.exited.exit_code == 0


def test_class_knows_its_trial(drive: Any, tmp_path: Path) -> None:
    """Name, id and directory are the trial's, also through get_context; report is an error."""

    def step(self: Any) -> dict[str, Any]:
        try:
            report({"a": 1})
        except RuntimeError as error:
            said = str(error)
        context = get_context()
        return {
            "own": (self.trial_name, self.trial_id, self.logdir, self.iteration),
            "context": (
                context.get_trial_name(),
                context.get_trial_id(),
                context.get_trial_dir(),
                in_session(),
            ),
            "said": said,
            "nested": Trainable().trial_id,  # another object is on its own
        }

    worker = drive(local(Count, step=step), kind="class").run(decide=until(1))
    row = worker.rows[0]
    assert row["own"] == ("train_t1", "t1", str(tmp_path / "t1"), 0)
    assert row["context"] == ("train_t1", "t1", str(tmp_path / "t1"), True)
    assert "Return the metrics from step()" in row["said"]
    assert row["nested"] == "default"


def test_failed_commit_fails_the_next_report(drive_with_keeper: Any, tmp_path: Path) -> None:
    """A checkpoint that could not be committed fails the trial at its next result."""
    driver = drive_with_keeper(Count, kind="class")
    blocker = tmp_path / "exp" / "t1" / "checkpoint_000000"

    def decide(row: dict[str, Any]) -> Reply:
        if row["training_iteration"] == 1:
            blocker.mkdir()
            (blocker / "something").write_text("is in the way")
            return Reply("continue", save=True)
        if row["training_iteration"] == 2:  # the failure is known before the next step
            driver.wait(lambda: bool(driver.keeper_events))
        return Reply("continue")

    worker = driver.run(decide=decide)
    assert worker.end.kind == "CheckpointFailedError"
    assert isinstance(load(worker.end.error), CheckpointFailedError)
    assert "checkpoint_000000" in worker.end.message

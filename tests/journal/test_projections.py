"""The process that writes result files follows the journal, whatever happens to it."""

from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.errors import JournalError, LeaseLostError
from milepost.journal import epochs, replay
from milepost.journal import records as rec
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.journal.objects import Objects
from milepost.journal.projections import Projections

ALL = ("json", "csv", "tensorboard")


class Run:
    """A journal with its projections."""

    def __init__(self, experiment: Experiment, kinds: tuple[str, ...] = ALL, **options: int):
        self.experiment = experiment
        self.journal = Journal.open(experiment, **options)
        self.projections = Projections(self.journal, kinds)
        self.append = self.journal.append

    def close(self) -> None:
        self.projections.close()
        self.journal.close("finished")

    def die(self) -> None:
        """End as a killed driver does: without a word to anybody."""
        os.kill(self.projections._process.pid, signal.SIGKILL)
        self.projections._process.wait()
        self.projections.forget()
        self.journal.close(None)


@pytest.fixture
def start(experiment: Experiment) -> Iterator[Callable[..., Run]]:
    """Starts runs of the experiment and ends them."""
    runs: list[Run] = []

    def start_it(*args: Any, **options: Any) -> Run:
        runs.append(Run(experiment, *args, **options))
        return runs[-1]

    yield start_it
    for run in runs:
        run.projections._process.kill()
        run.projections._process.wait()
        run.projections.forget()
        run.journal.close(None)


def trial_dir(experiment: Experiment, trial: str = "t1") -> Path:
    return Path(experiment.path, f"train_{trial}_dir")


def iterations(experiment: Experiment, trial: str = "t1") -> list[int]:
    """Iterations of all rows; both tables must have the same."""
    directory = trial_dir(experiment, trial)
    lines = (directory / "result.json").read_text().splitlines()
    rows = [json.loads(line)["training_iteration"] for line in lines]
    with open(directory / "progress.csv", newline="") as file:
        assert [int(row["training_iteration"]) for row in csv.DictReader(file)] == rows
    return rows


def test_all_files_of_a_trial_appear(start: Callable[..., Run], make: Any) -> None:
    """From the records of a trial's life all of its files are made."""
    run = start()
    digest = Objects(run.experiment.path).put_value(ValueError("no"))
    run.append(make.created(lr=0.1))
    run.append(make.launched())
    run.append(make.reported(iteration=1, loss=1.0))
    run.append(make.failure(number=1, error=digest))
    run.append(make.launched(attempt=1))
    run.append(make.reported(iteration=1, loss=0.9, attempt=1))
    run.append(make.reported(iteration=2, loss=0.8, attempt=1))
    run.append(make.changed(status="TERMINATED"))
    run.projections.flush()
    directory = trial_dir(run.experiment)
    names = {name.split(".out.")[0] for name in os.listdir(directory)}
    assert names == {
        *("params.json", "params.pkl", "result.json", "progress.csv"),
        *("events", "error.txt", "error.pkl"),
    }
    assert iterations(run.experiment) == [1, 1, 2]
    assert json.loads((directory / "params.json").read_text()) == {"lr": 0.1}
    first = json.loads((directory / "result.json").read_text().splitlines()[0])
    assert first == {"loss": 1.0, "training_iteration": 1, "config": {"lr": 0.1}}
    run.close()
    assert run.projections._process.returncode == 0


def test_rows_appear_without_being_asked_for(start: Callable[..., Run], make: Any) -> None:
    """The flush of the journal wakes the writer."""
    run = start()
    run.append(make.created())
    run.append(make.launched())
    run.projections.flush()
    run.append(make.reported(iteration=1))
    path = trial_dir(run.experiment) / "progress.csv"  # written after result.json, in one go
    waited = threading.Event()
    for _ in range(1000):
        if path.exists() and path.stat().st_size:
            break
        waited.wait(0.01)
    assert iterations(run.experiment) == [1]


def test_a_trial_has_no_files_before_it_starts(start: Callable[..., Run], make: Any) -> None:
    """Its directory appears with its first start."""
    run = start()
    run.append(make.created())
    run.projections.flush()
    assert not trial_dir(run.experiment).exists()
    run.append(make.launched())
    run.projections.flush()
    assert sorted(os.listdir(trial_dir(run.experiment))) == ["params.json", "params.pkl"]


def test_a_changed_config_shows_in_params_and_rows(start: Callable[..., Run], make: Any) -> None:
    """Rows have the config that they ran with, also when it changed while the trial paused."""
    run = start()
    run.append(make.created(lr=1))
    run.append(make.launched())
    run.append(make.reported(iteration=1))
    run.append(make.changed(status="PAUSED"))
    run.append(rec.Reconfigured(at=4.0, trial="t1", config=make.raw({"lr": 2}), tag="1@"))
    run.append(make.launched(attempt=1))
    run.append(make.reported(iteration=2))
    run.projections.flush()
    directory = trial_dir(run.experiment)
    lines = (directory / "result.json").read_text().splitlines()
    assert [json.loads(line)["config"]["lr"] for line in lines] == [1, 2]
    assert json.loads((directory / "params.json").read_text()) == {"lr": 2}


def test_a_killed_writer_is_replaced_and_nothing_is_lost_or_doubled(
    start: Callable[..., Run], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows before, during and after its death are in the files once."""
    run = start()
    run.append(make.created())
    run.append(make.launched())
    run.append(make.reported(iteration=1))
    run.projections.flush()
    run.projections._process.kill()
    run.append(make.reported(iteration=2))
    assert select.select([run.projections], [], [], 20)[0]
    with caplog.at_level(logging.WARNING):
        run.projections.check()
    assert "ended with status -9; starting another" in caplog.text
    run.append(make.reported(iteration=3))
    run.projections.flush()
    assert iterations(run.experiment) == [1, 2, 3]
    run.projections._process.kill()
    run.append(make.reported(iteration=4))
    run.projections.flush()
    assert iterations(run.experiment) == [1, 2, 3, 4]
    run.close()


@pytest.mark.parametrize("lost", ["params.json", "params.pkl and params.json"])
@pytest.mark.parametrize("reports", [0, 1])
def test_the_next_writer_completes_the_files_of_the_config(
    start: Callable[..., Run], make: Any, lost: str, reports: int
) -> None:
    """A writer that was killed while it began a trial leaves nothing out for good."""
    run = start()
    run.append(make.created(lr=1))
    run.append(make.launched())
    for iteration in range(reports):
        run.append(make.reported(iteration=iteration + 1))
    run.projections.flush()
    run.projections._process.kill()
    directory = trial_dir(run.experiment)
    for name in lost.split(" and "):
        (directory / name).unlink()
    (directory / ".milepost-tmp-params.json-0").touch()
    if reports:
        config = make.raw({"lr": 2})
        run.append(rec.Reconfigured(at=4.0, trial="t1", config=config, tag="0_lr=2"))
    else:
        run.append(make.created(trial="t2"))
    run.projections.flush()
    assert json.loads((directory / "params.json").read_text()) == {"lr": 2 if reports else 1}
    assert pickle.loads((directory / "params.pkl").read_bytes()) == {"lr": 2 if reports else 1}
    assert not list(directory.glob(".milepost-tmp-*"))
    run.close()


def test_the_writer_of_a_driver_that_was_replaced_writes_nothing(
    start: Callable[..., Run], experiment: Experiment, make: Any
) -> None:
    """Rows that come too late reach no file, and the driver hears why."""
    run = start()
    run.append(make.created())
    run.append(make.launched())
    run.append(make.reported(iteration=1))
    run.projections.flush()
    lock = Path(experiment.home, "lock")
    copy = lock.with_name("copy")
    shutil.copy(lock, copy)
    copy.replace(lock)  # as on a file system that does not share locks
    other = Journal.open(experiment)
    path = trial_dir(experiment) / "result.json"
    before = path.read_bytes()
    run.append(make.reported(iteration=2))
    with pytest.raises(LeaseLostError, match="writes its result files now"):
        run.projections.flush()
    assert path.read_bytes() == before
    with pytest.raises(LeaseLostError):
        run.journal.sync()
    other.close(None)


def test_a_writer_that_keeps_dying_is_an_error(start: Callable[..., Run]) -> None:
    """After three replacements the run is told, with what is safe."""
    run = start()
    for _ in range(3):
        run.projections._process.kill()
        run.projections._process.wait()
        run.projections.check()
    run.projections._process.kill()
    run.projections._process.wait()
    with pytest.raises(JournalError, match=r"ended 4 times, at last with status -9.*all rows"):
        run.projections.check()


def test_files_that_cannot_be_written_are_an_error(start: Callable[..., Run], make: Any) -> None:
    """A file in the way of a trial's directory is named, and the writer ends."""
    run = start()
    trial_dir(run.experiment).write_text("in the way")
    run.append(make.created())
    run.append(make.launched())
    with pytest.raises(JournalError, match=r"cannot write result files .*train_t1_dir.*safe"):
        run.projections.flush()
    run.projections.close()
    assert run.projections._process.returncode == 1


def test_unknown_kinds_are_refused(start: Callable[..., Run]) -> None:
    """A misspelt kind is named with what was meant."""
    with pytest.raises(ValueError, match=r"unknown kind of result file 'cvs'.*'csv'"):
        start(("cvs",))


@pytest.mark.parametrize("lost", ["rows", "files", "nothing", "too many"])
def test_the_next_driver_completes_the_files(
    start: Callable[..., Run], make: Any, lost: str
) -> None:
    """Whatever a crash left of the files, they end with the rows of the journal."""
    run = start()
    run.append(make.created("t1"))
    run.append(make.created("t2"))
    for trial in ("t1", "t2"):
        run.append(make.launched(trial))
        for iteration in (1, 2, 3):
            run.append(make.reported(trial, iteration))
    run.append(make.failure("t1"))
    run.append(make.changed("t2"))
    run.projections.flush()
    run.die()
    for trial in ("t1", "t2"):
        directory = trial_dir(run.experiment, trial)
        for name in ("result.json", "progress.csv"):
            data = (directory / name).read_bytes()
            if lost == "rows":
                (directory / name).write_bytes(data[: len(data) // 2])
            elif lost == "too many":
                (directory / name).write_bytes(data + data.splitlines(keepends=True)[-1] + b'{"a"')
        if lost == "files":
            shutil.rmtree(directory)
    again = start()
    again.append(make.launched("t1", attempt=1))
    again.append(make.reported("t1", 4, attempt=1))
    again.projections.flush()
    assert iterations(again.experiment, "t1") == [1, 2, 3, 4]
    assert iterations(again.experiment, "t2") == [1, 2, 3]
    errors = (trial_dir(again.experiment) / "error.txt").read_text()
    assert errors.count("Failure # 1 (occurred at") == 1
    assert (trial_dir(again.experiment) / "params.json").exists()


def ends(pid: int) -> bool:
    """Wait until a process that is not our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 20)[0])
    finally:
        os.close(pidfd)


DRIVER = """
import os, signal, sys
from milepost.journal import experiment
from milepost.journal import records as rec
from milepost.journal.log import Journal
from milepost.journal.projections import Projections
import msgspec

journal = Journal.open(experiment.open(sys.argv[1]))
projections = Projections(journal, {"json", "csv"})
raw = msgspec.Raw(b"{}")
journal.append(rec.Created(at=1, trial="t1", name="t", directory="train_t1_dir", tag="", order=0,
                           config=raw, evaluated=raw, resources=raw))
journal.append(rec.Launched(at=1, trial="t1", attempt=0, attempt_id="a", first_index=0))
for i in range(1, 501):
    row = msgspec.Raw(b'{"training_iteration":%d}' % i)
    journal.append(rec.Reported(at=1, trial="t1", attempt=0, iteration=i, row=row, action="x"))
print(projections._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_writer_finishes_after_its_driver_was_killed(
    experiment: Experiment, start: Callable[..., Run], make: Any
) -> None:
    """All rows reach the files without a driver, and the writer does not outlive its work."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, experiment.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ends(int(done.stdout))
    assert iterations(experiment) == list(range(1, 501))
    run = start(("json", "csv"))
    run.append(make.launched(attempt=1))
    run.append(make.reported(iteration=501))
    run.projections.flush()
    assert iterations(experiment) == list(range(1, 502))


def test_signals_of_the_terminal_do_not_reach_the_writer(start: Callable[..., Run]) -> None:
    """It is in a session of its own."""
    run = start()
    assert os.getsid(run.projections._process.pid) == run.projections._process.pid


def test_a_working_directory_cannot_replace_our_modules(
    start: Callable[..., Run], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files named like modules that we need do no harm."""
    for name in ("json", "msgspec", "csv", "milepost"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported the wrong module')")
    monkeypatch.chdir(tmp_path)
    run = start()
    run.append(make.created())
    run.append(make.launched())
    run.append(make.reported())
    run.projections.flush()
    assert iterations(run.experiment) == [1]


def test_nothing_is_left_open_or_running(experiment: Experiment, make: Any) -> None:
    """After the end there is no process, thread or descriptor of ours."""
    before, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    run = Run(experiment)
    run.append(make.created())
    pid = run.projections._process.pid
    run.close()
    run.projections.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_many_trials_hold_no_descriptors(start: Callable[..., Run], make: Any) -> None:
    """However many trials there are, the writer has the same few files open."""
    run = start()

    def add(first: int, last: int) -> set[str]:
        for number in range(first, last):
            trial = f"t{number}"
            run.append(make.created(trial, lr=number))
            run.append(make.launched(trial))
            run.append(make.reported(trial, 1))
            if number % 2:
                run.append(make.changed(trial))
        run.projections.flush()
        return set(os.listdir(f"/proc/{run.projections._process.pid}/fd"))

    few = add(0, 10)
    assert add(10, 300) == few
    assert iterations(run.experiment, "t299") == [1]


def test_the_journal_is_compacted_while_it_grows(start: Callable[..., Run], make: Any) -> None:
    """Old files go, rows stay in the tables, replay gives all, and a restart changes nothing."""
    run = start(segment_bytes=5000)
    run.append(make.created())
    run.append(make.launched())
    for iteration in range(1, 401):
        run.append(make.reported(iteration=iteration))
        if iteration % 50 == 0:
            run.projections.flush()
    run.projections.flush()
    kept = epochs.segments(run.experiment.path)
    assert kept[0].number > 2
    assert len(epochs.snapshots(run.experiment.path)) == 2
    assert replay.image(run.experiment.path).trials["t1"].rows == 400
    assert iterations(run.experiment) == list(range(1, 401))
    run.die()
    with open(trial_dir(run.experiment) / "result.json", "rb+") as file:
        lines = file.readlines()
        file.truncate(sum(map(len, lines[:-3])))
    again = start(segment_bytes=5000)
    again.append(make.launched(attempt=1))
    again.append(make.reported(iteration=401))
    again.projections.flush()
    assert iterations(again.experiment) == list(range(1, 402))


def test_rows_that_are_nowhere_are_said_to_be_missing(
    start: Callable[..., Run], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Result files that somebody removed after their rows left the journal are named."""
    run = start(segment_bytes=3000)
    run.append(make.created())
    run.append(make.launched())
    for iteration in range(1, 201):
        run.append(make.reported(iteration=iteration))
        if iteration % 20 == 0:
            run.projections.flush()
    assert epochs.segments(run.experiment.path)[0].number > 1
    run.die()
    os.unlink(trial_dir(run.experiment) / "result.json")
    again = start()
    again.projections.flush()
    with caplog.at_level(logging.WARNING):
        again.projections.check()
    assert "are in no result file and have left the journal" in caplog.text
    assert iterations_of_json(again.experiment)[-1] == 200


def iterations_of_json(experiment: Experiment) -> list[int]:
    lines = (trial_dir(experiment) / "result.json").read_text().splitlines()
    return [json.loads(line)["training_iteration"] for line in lines]


def test_without_result_json_no_row_leaves_the_journal(
    start: Callable[..., Run], make: Any
) -> None:
    """Rows that have no other place are kept, whatever the length of the journal."""
    run = start(("csv",), segment_bytes=3000)
    run.append(make.created())
    run.append(make.launched())
    for iteration in range(1, 101):
        run.append(make.reported(iteration=iteration))
        if iteration % 20 == 0:
            run.projections.flush()
    run.projections.flush()
    assert len(epochs.segments(run.experiment.path)) > 2
    assert len(epochs.snapshots(run.experiment.path)) >= 2
    rows = [r for _, r in replay.records(run.experiment.path) if type(r).__name__ == "Reported"]
    assert len(rows) == 100


def test_old_trials_are_not_looked_at_again(start: Callable[..., Run], make: Any) -> None:
    """What a snapshot vouches for is not read by the next driver's writer."""
    run = start(segment_bytes=3000)
    for number in range(40):
        trial = f"t{number}"
        run.append(make.created(trial))
        run.append(make.launched(trial))
        run.append(make.reported(trial, 1))
        run.append(make.changed(trial))
        if number % 10 == 0:
            run.projections.flush()
    run.close()
    first, last = (trial_dir(run.experiment, trial) / "result.json" for trial in ("t0", "t39"))
    first.unlink()
    last.unlink()
    start().projections.flush()
    assert not first.exists()
    assert iterations(run.experiment, "t39") == [1]


@pytest.mark.parametrize("status", ["ERROR", "TERMINATED"])
def test_an_ended_trial_may_go_on(start: Callable[..., Run], make: Any, status: str) -> None:
    """A trial that a later driver starts again continues its files, with its last config."""
    run = start()
    run.append(make.created(lr=1))
    run.append(make.launched())
    run.append(make.reported(iteration=1))
    run.append(make.changed(status=status))
    run.append(make.launched(attempt=1))
    run.append(make.reported(iteration=2, attempt=1))
    run.append(make.changed(status=status))
    run.close()
    again = start()
    again.append(make.launched(attempt=2))
    again.append(make.reported(iteration=3, attempt=2))
    again.projections.flush()
    assert iterations(again.experiment) == [1, 2, 3]
    last = (trial_dir(again.experiment) / "result.json").read_text().splitlines()[-1]
    assert json.loads(last)["config"] == {"lr": 1}


def test_what_cannot_be_shown_is_said_once(
    start: Callable[..., Run], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A metric that TensorBoard cannot show is one line in the driver's log, not one per trial."""
    run = start()
    for trial in ("t1", "t2"):
        run.append(make.created(trial))
        run.append(make.launched(trial))
        run.append(make.reported(trial, 1, words=["a", "b"]))
    with caplog.at_level(logging.WARNING):
        run.projections.flush()
        run.projections.check()
    assert caplog.text.count("TensorBoard cannot show the metric 'words'") == 1

"""A whole run, with a fault at each change that one of its processes makes to the file system.

The driver, the keeper and the worker are the real ones; the interposer arms one of them through
its environment. By default a spread of points runs; the rest with ``-m chaos``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint import collect, verify
from milepost.checkpoint.manifest import checkpoint_name
from milepost.journal import records, replay
from milepost.testing.interposer import EXIT_CODE, Fault, FaultKind, environment, read_trace

SCRIPT = """
import os
import sys
import tempfile

from milepost import tune
from milepost.tune import Checkpoint

EPOCHS = 4


def train(config):
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            with open(os.path.join(directory, "epoch")) as file:
                start = int(file.read())
    for epoch in range(start + 1, EPOCHS + 1):
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "epoch"), "w") as file:
                file.write(str(epoch))
            with open(os.path.join(directory, "weights"), "wb") as file:
                file.write(bytes([epoch]) * 2_000_000)
            tune.report({"epoch": epoch}, checkpoint=Checkpoint.from_directory(directory))


result = tune.Tuner(
    train,
    run_config=tune.RunConfig(
        name="exp",
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=2),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
    ),
).fit()[0]
print("ERROR", result.error)
print("CHECKPOINT", result.checkpoint.path)
"""

DRIVER, KEEPER, WORKER = "script.py", "milepost.keeper", "fork:milepost.engine.forkserver"
NAMES = {"driver": DRIVER, "keeper": KEEPER, "worker": WORKER}


class Run:
    """One run of the script under a fault, and what it left."""

    def __init__(self, place: Any, role: str, fault: Fault) -> None:
        self.place = place
        self.trace = place.path / "trace"
        place.env = environment_of(place, role, fault, self.trace)
        self.code, self.output = execute(place)
        assert not place.wait_until_gone()
        self.experiment = place.home / "milepost_results" / "exp"

    @property
    def struck(self) -> bool:
        return (self.place.path / "faults" / "fired").exists()

    @property
    def operations(self) -> int:
        return len(read_trace(str(self.trace))) if self.trace.exists() else 0

    def trials(self) -> list[Path]:
        return [path for path in self.experiment.glob("train_*") if path.is_dir()]

    def newest_epoch(self) -> int:
        """The epoch in the newest checkpoint, after a check of every visible one."""
        newest = 0
        for trial in self.trials():
            for index, _ in verify.committed(str(trial)):
                directory = trial / checkpoint_name(index)
                assert verify.check(str(directory), digests=True) == []
                newest = int((directory / "epoch").read_text())
            visible = {path.name for path in trial.glob("checkpoint_*")}
            assert visible == {checkpoint_name(i) for i, _ in verify.committed(str(trial))}
            collect.sweep(str(trial))
            assert not [path.name for path in trial.glob(".milepost*")]
        return newest

    def assert_journal_agrees(self) -> None:
        """What the journal says is committed, and not being deleted, is there."""
        if not (self.experiment / ".milepost" / "experiment.json").exists():
            return
        committed: set[int] = set()
        for _, record in replay.records(str(self.experiment)):
            if isinstance(record, records.Committed):
                committed.add(record.index)
            elif isinstance(record, records.Deleting):
                committed.discard(record.index)
        for trial in self.trials():
            assert committed <= {index for index, _ in verify.committed(str(trial))}

    def staged(self) -> list[Path]:
        """Captures that are complete and were not committed."""
        return [
            path
            for path in self.place.scratch.rglob("*")
            if path.name.endswith(".captured") and "staging" in path.parts
        ]


def environment_of(place: Any, role: str, fault: Fault, trace: Path) -> dict[str, str]:
    made = environment(str(place.path / "faults"), role, fault, trace_file=str(trace))
    added = {key: made[key] for key in made if os.environ.get(key) != made[key]}
    return {**place.env, **added}


def execute(place: Any) -> tuple[int, str]:
    process = place.start(str(place.write(SCRIPT)))
    out, err = process.communicate(timeout=50)
    return process.returncode, f"{out}\n{err}"


def rows(trial: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (trial / "result.json").read_text().splitlines()]


def assert_finished(run: Run) -> None:
    """The run ended well: every epoch was reported, the last one is in the newest checkpoint."""
    assert run.code == 0, run.output
    assert "ERROR None" in run.output, run.output
    assert run.newest_epoch() == 4
    (trial,) = run.trials()
    logged = rows(trial)
    assert sorted(set(logged)) == [1, 2, 3, 4], logged
    assert run.staged() == []
    run.assert_journal_agrees()


def assert_safe(run: Run) -> None:
    """The run need not have ended well; nothing visible is torn, nothing committed is lost."""
    run.newest_epoch()
    run.assert_journal_agrees()


def check(run: Run, role: str, kind: FaultKind) -> None:
    if not run.struck:  # timing moved this point beyond the end
        assert_finished(run)
    elif role == "driver" and kind in ("exit", "torn"):
        assert run.code == EXIT_CODE, run.output
        assert_safe(run)
        assert run.staged() == [], "the keeper commits what was captured when the driver dies"
    elif kind in ("exit", "torn"):
        assert_finished(run)
    else:
        assert_safe(run)


def points(place: Any, role: str) -> int:
    """How many operations a process of that role makes in a run without a fault."""
    run = Run(place, NAMES[role], Fault())
    assert_finished(run)
    assert not run.struck
    return run.operations


KINDS: list[FaultKind] = ["exit", "torn", "eio", "enospc"]


@pytest.mark.parametrize("role", NAMES)
def test_spread(role: str, new_place: Any) -> None:
    """A process of each role dies, or fails, at a few points spread over all of its changes."""
    total = points(new_place("count"), role)
    assert total > 15
    for number, kind in enumerate(KINDS):
        at = 1 + (2 * number + 1) * total // (2 * len(KINDS))
        check(Run(new_place(f"{at}-{kind}"), NAMES[role], Fault(kind, at)), role, kind)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", NAMES)
def test_every_point(
    role: str, kind: FaultKind, new_place: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process of each role dies, or fails, at each of its changes in turn."""
    total = points(new_place("count"), role)
    wrong = []
    for at in range(1, total + 1):
        run = Run(new_place(str(at)), NAMES[role], Fault(kind, at))
        try:
            check(run, role, kind)
        except AssertionError as error:
            wrong.append(f"{kind} at {at} of {total} in the {role}: {error}\n{run.output}")
    assert not wrong, "\n".join(wrong)
    with capfd.disabled():
        print(f"\n{role}: {total} points with {kind}", end=" ")


@pytest.fixture
def new_place(tmp_path: Path, place: Any) -> Any:
    """Return a function that makes a place of its own for each run."""
    return lambda name: type(place)(tmp_path / "places" / name)

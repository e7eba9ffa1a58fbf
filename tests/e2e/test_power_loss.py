"""A power loss at every moment of a whole run: what the disk can hold then, and what must hold."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint import verify
from milepost.checkpoint.manifest import checkpoint_name
from milepost.errors import MilepostError
from milepost.journal import records, replay
from milepost.testing import powerloss
from milepost.testing.interposer import Step, environment, read_trace

SCRIPT = """
import os
import tempfile

from milepost import tune
from milepost.tune import Checkpoint


def train(config):
    for epoch in range(1, 5):
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "epoch"), "w") as file:
                file.write(str(epoch))
            tune.report({"epoch": epoch}, checkpoint=Checkpoint.from_directory(directory))
            tune.get_checkpoint()  # waits for the commit


if __name__ == "__main__":
    config = tune.CheckpointConfig(num_to_keep=2)
    run_config = tune.RunConfig(name="exp", verbose=0, checkpoint_config=config)
    result = tune.Tuner(train, run_config=run_config).fit()[0]
    assert result.error is None, result.error
"""


class Claims:
    """What the processes had said or done at a moment of the run, read from the trace."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.committed: set[int] = set()
        self.retiring: set[int] = set()
        for step in steps:
            if step.operation == "append" and "/journal/" in step.paths[0]:
                for line in step.data.splitlines():
                    record = json.loads(line)
                    if record["type"] == "committed":
                        self.committed.add(record["index"])
            elif step.operation == "rename_noreplace" and "-trash-" in step.paths[1]:
                name = os.path.basename(step.paths[0])
                self.retiring.add(int(name.removeprefix("checkpoint_")))


def journal(experiment: Path) -> list[records.AnyRecord] | None:
    """The records that survived, or None when the experiment was not there yet."""
    if not (experiment / ".milepost" / "journal").is_dir():
        return None
    return [record for _, record in replay.records(str(experiment))]


def problems(root: Path, steps: Sequence[Step]) -> list[str]:
    """What is wrong with a disk after those steps and a power loss."""
    claims = Claims(steps)
    experiment = root / "home" / "milepost_results" / "exp"
    wrong = []
    try:
        survived = journal(experiment)
    except MilepostError as error:
        survived = None
        wrong.append(f"the journal cannot be read: {error}")
    deleting = {r.index for r in survived or () if isinstance(r, records.Deleting)}
    recorded = {r.index for r in survived or () if isinstance(r, records.Committed)}
    visible: set[int] = set()
    for trial in experiment.glob("train_*"):
        listed = {index for index, _ in verify.committed(str(trial))}
        visible |= listed
        for path in trial.glob("checkpoint_*"):
            if not any(path.name == checkpoint_name(index) for index in listed):
                wrong.append(f"{path.name} is visible and torn")
            elif verify.check(str(path), digests=True):
                wrong.append(f"{path.name} does not verify")
    if lost := claims.committed - claims.retiring - visible:
        wrong.append(f"{lost} were committed and are lost")
    if silent := claims.retiring - visible - deleting:
        wrong.append(f"{silent} were deleted, and the journal does not know it")
    if ghosts := recorded - visible - deleting:
        wrong.append(f"the journal has {ghosts}, which are not there")
    if survived and not isinstance(survived[0], records.Opened):
        wrong.append("the journal does not begin with its first record")
    return wrong


@pytest.fixture
def trace(place: Any) -> list[Step]:
    """All changes of all processes of a run without faults, from an empty disk."""
    root = place.path.parent
    (root / "tmp").mkdir()  # what is recorded is what happens below the root
    place.env["TMPDIR"] = str(root / "tmp")
    shutil.copytree(root, f"{root}.before", symlinks=True)
    script = place.write(SCRIPT)
    file = root.with_name(f"{root.name}.trace")
    made = environment(f"{root}.faults", "*", trace_file=str(file))
    place.env |= {key: made[key] for key in made if os.environ.get(key) != made[key]}
    process = place.start(str(script))
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, f"{out}\n{err}"
    steps = read_trace(str(file))
    claims = Claims(steps)
    assert (claims.committed, claims.retiring) == ({0, 1, 2, 3}, {0, 1})
    return [move(step, str(root), f"{root}.before") for step in steps]


def move(step: Step, root: str, to: str) -> Step:
    paths = tuple(to + p[len(root) :] if p.startswith(f"{root}/") else p for p in step.paths)
    return Step(step.operation, paths, step.data, step.offset)


def examine(before: str, steps: list[Step], scratch: Path, most: int) -> tuple[int, list[str]]:
    """Look at the states after a power loss; stop at the ``most``-th problem."""
    disk = powerloss.Disk(before, implicit=True)
    count, wrong = 0, []
    for state in powerloss.states(disk, steps):
        count += 1
        target = scratch / f"state{count}"
        powerloss.materialise(state.content, str(target))
        for problem in problems(target, steps[: state.prefix]):
            last = steps[state.prefix - 1] if state.prefix else None
            wrong.append(f"after {state.prefix} steps ({last}), {state.what} survived: {problem}")
        shutil.rmtree(target)
        if len(wrong) >= most:
            break
    return count, wrong


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where states are written: in memory if that is possible, for there are many."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.mark.timeout(180)
def test_power_loss_in_a_whole_run(
    place: Any, trace: list[Step], scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing torn is visible, nothing committed is lost, nothing goes that the journal keeps."""
    count, wrong = examine(f"{place.path.parent}.before", trace, scratch, 20)
    assert wrong == []
    assert count > len(trace)
    with capfd.disabled():
        print(f"\n{len(trace)} changes, {count} states", end=" ")


@pytest.mark.timeout(180)
def test_flushes_are_missed(place: Any, trace: list[Step], scratch: Path) -> None:
    """The test above can fail: it does without the flushes of one kind."""
    for operation in ("fsync", "fsync_file", "fsync_dir"):
        without = [step for step in trace if step.operation != operation]
        assert len(without) < len(trace)
        _, wrong = examine(f"{place.path.parent}.before", without, scratch, 1)
        shutil.rmtree(scratch)
        scratch.mkdir()
        assert wrong, f"nobody misses {operation}"

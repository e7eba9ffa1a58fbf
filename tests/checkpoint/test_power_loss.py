"""What a power loss leaves, after every prefix of every recorded sequence of changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from milepost.checkpoint import collect, verify
from milepost.checkpoint.commit import commit
from milepost.checkpoint.handle import Checkpoint
from milepost.checkpoint.manifest import Manifest, checkpoint_name
from milepost.storage.local import LocalStorage
from milepost.testing import powerloss
from milepost.testing.interposer import Interposer, Step


class Recorded:
    """A trace over a root, and the condition that every state after a power loss must meet."""

    def __init__(
        self,
        root: Path,
        scenario: Callable[[Interposer], None],
        check: Callable[[str, set[tuple[str, ...]]], None],
        unflushed: Sequence[str] = (),
    ) -> None:
        self.root = str(root)
        self.before = shutil.copytree(root, f"{root}.before", symlinks=True)
        self.unflushed = [os.path.join(self.before, path) for path in unflushed]
        with Interposer() as interposer:
            scenario(interposer)
        self.steps = [self._moved(step) for step in interposer.steps]
        self.check = check

    def _moved(self, step: Step) -> Step:
        """A step as if it had been made in the copy of the root that was kept from before."""
        if step.operation == "mark":
            return step
        paths = tuple(
            self.before + path[len(self.root) :] if path.startswith(self.root) else path
            for path in step.paths
        )
        return Step(step.operation, paths, step.data, step.offset)

    def failures(self, steps: Sequence[Step], scratch: Path) -> tuple[int, list[str]]:
        """Recover every state; return how many there were and what went wrong."""
        disk = powerloss.Disk(self.before, self.unflushed)
        count, wrong = 0, []
        for state in powerloss.states(disk, steps):
            count += 1
            path = str(scratch / f"state{count}")
            powerloss.materialise(state.content, path)
            said = {step.paths for step in steps[: state.prefix] if step.operation == "mark"}
            try:
                self.check(path, said)
            except (AssertionError, OSError, ValueError) as error:
                last = steps[state.prefix - 1] if state.prefix else None
                wrong.append(f"after {state.prefix} steps ({last}), {state.what} survived: {error}")
            shutil.rmtree(path)
        return count, wrong


def check_trial(root: str, said: set[tuple[str, ...]]) -> None:
    """What is visible is whole, what was claimed is there, a sweep leaves nothing else."""
    trial = os.path.join(root, "experiment", "trial")
    visible = dict(verify.committed(trial))
    for index in visible:
        assert verify.check(os.path.join(trial, checkpoint_name(index)), digests=True) == []
    for what, *values in said:
        if what == "committed":
            assert int(values[0]) in visible or ("retiring", values[0]) in said
        elif what == "retired":
            assert int(values[0]) not in visible
    assert ("retiring", "0") in said or 0 in visible
    collect.sweep(trial)
    if os.path.isdir(trial):
        assert sorted(os.listdir(trial)) == [checkpoint_name(index) for index in visible]


def committing(items, interposer: Interposer) -> None:
    for outcome in commit(items):
        assert isinstance(outcome, Manifest)
        interposer.mark("committed", str(outcome.index))


@pytest.fixture
def recorded(tmp_path: Path, stage, save, request) -> Recorded:
    """One of the scenarios, recorded."""
    root = tmp_path / "root"
    trial = root / "experiment" / "trial"
    trial.mkdir(parents=True)
    save(str(trial), 0)
    return request.param(root, str(trial), stage)


def one(root: Path, trial: str, stage) -> Recorded:
    """One checkpoint with nested directories, of files that the user never flushed."""
    item = stage(trial, 1, full=True)
    staged = os.path.relpath(item.directory, root)
    return Recorded(root, lambda tracer: committing([item], tracer), check_trial, [staged])


def group(root: Path, trial: str, stage) -> Recorded:
    """Three checkpoints in two trials, committed together."""
    second = os.path.join(os.path.dirname(trial), "second")
    os.mkdir(second)
    items = [stage(trial, 1), stage(trial, 2), stage(second, 0)]
    unflushed = [os.path.relpath(item.directory, root) for item in items]

    def check(path: str, said: set[tuple[str, ...]]) -> None:
        check_trial(path, said)
        other = os.path.join(path, "experiment", "second")
        for index, _ in verify.committed(other):
            assert verify.check(os.path.join(other, checkpoint_name(index)), digests=True) == []
        if ("committed", "0") in said:
            assert len(verify.committed(other)) == 1

    return Recorded(root, lambda tracer: committing(items, tracer), check, unflushed)


def new_trial(root: Path, trial: str, stage) -> Recorded:
    """The first checkpoint of a trial whose directory was created without a flush."""
    directory = os.path.join(os.path.dirname(trial), "new")
    os.mkdir(directory)
    item = stage(directory, 5)

    def check(path: str, said: set[tuple[str, ...]]) -> None:
        found = verify.committed(os.path.join(path, "experiment", "new"))
        assert found or ("committed", "5") not in said
        assert not found or verify.newest_good(
            os.path.join(path, "experiment", "new"), digests=True
        )

    return Recorded(root, lambda tracer: committing([item], tracer), check, ["experiment/new"])


def retire(root: Path, trial: str, stage) -> Recorded:
    """A commit, and then the deletion of the checkpoint before it."""
    item = stage(trial, 1)

    def scenario(tracer: Interposer) -> None:
        committing([item], tracer)
        tracer.mark("retiring", "0")
        assert collect.retire(os.path.join(trial, checkpoint_name(0))) == "deleted"
        tracer.mark("retired", "0")

    staged = os.path.relpath(item.directory, root)
    return Recorded(root, scenario, check_trial, [staged])


def metadata(root: Path, trial: str, stage) -> Recorded:
    """Metadata is written and then merged into."""
    directory = os.path.join(trial, checkpoint_name(0))

    def scenario(tracer: Interposer) -> None:
        checkpoint = Checkpoint.from_directory(directory)
        checkpoint.set_metadata({"a": 1})
        tracer.mark("set")
        checkpoint.update_metadata({"b": 2})
        tracer.mark("updated")

    def check(path: str, said: set[tuple[str, ...]]) -> None:
        check_trial(path, said)
        found = Checkpoint.from_directory(
            os.path.join(path, "experiment", "trial", checkpoint_name(0))
        ).get_metadata()
        possible = [{}, {"a": 1}, {"a": 1, "b": 2}]
        assert found in possible[len(said) : len(said) + 2]

    return Recorded(root, scenario, check)


def quarantine(root: Path, trial: str, stage) -> Recorded:
    """A damaged checkpoint is put aside."""
    committing([stage(trial, 1)], Interposer())
    with open(os.path.join(trial, checkpoint_name(1), "model.bin"), "r+b") as file:
        file.truncate(3)

    def scenario(tracer: Interposer) -> None:
        found = verify.newest_good(trial, quarantine=True)
        assert found is not None
        tracer.mark("aside")

    def check(path: str, said: set[tuple[str, ...]]) -> None:
        directory = os.path.join(path, "experiment", "trial")
        if said:
            assert [index for index, _ in verify.committed(directory)] == [0]
        found = verify.newest_good(directory)
        assert found is not None
        assert found[0] == 0

    return Recorded(root, scenario, check)


def objects(root: Path, trial: str, stage) -> Recorded:
    """Objects by key are created, replaced and deleted, in directories made for them."""

    def scenario(tracer: Interposer) -> None:
        storage = LocalStorage(os.path.join(root, "objects"))
        storage.create("a/one", b"first")
        tracer.mark("one", "first")
        storage.put("a/one", b"second")
        tracer.mark("one", "second")
        storage.delete("a/one")
        tracer.mark("one", "gone")

    def check(path: str, said: set[tuple[str, ...]]) -> None:
        storage = LocalStorage(os.path.join(path, "objects"))
        found = [storage.get(key).decode() for key in storage.list_keys()]
        stages = [[], ["first"], ["second"], []]
        assert found in stages[len(said) : len(said) + 2]

    return Recorded(root, scenario, check)


SCENARIOS = [one, group, new_trial, retire, metadata, quarantine, objects]


@pytest.mark.parametrize("recorded", SCENARIOS, indirect=True)
def test_power_loss(recorded: Recorded, tmp_path: Path, monkeypatch, capfd):
    """Whatever unflushed changes a power loss takes, what was claimed is there and whole."""
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    count, wrong = recorded.failures(recorded.steps, tmp_path)
    assert wrong == []
    assert count > len([step for step in recorded.steps if step.operation != "mark"]) // 2
    with capfd.disabled():
        print(f"\n{count} states", end=" ")


@pytest.mark.parametrize("recorded", SCENARIOS, indirect=True)
def test_every_flush_is_needed(recorded: Recorded, tmp_path: Path, monkeypatch, capfd):
    """The matrix can fail: it does when any one flush is left out of the recorded sequence.

    Flushes that had nothing to flush (a directory that was durable before) are not counted.
    """
    monkeypatch.setenv("MILEPOST_NODE_ROOT", str(tmp_path / "node"))
    disk = powerloss.Disk(recorded.before, recorded.unflushed)
    flushes = []
    for number, step in enumerate(recorded.steps):
        if disk.would_flush(step):
            flushes.append(number)
        disk.apply(step)
    assert flushes
    for number in flushes:
        without = recorded.steps[:number] + recorded.steps[number + 1 :]
        _, wrong = recorded.failures(without, tmp_path)
        assert wrong, f"nobody misses {recorded.steps[number]}"
    with capfd.disabled():
        print(f"\n{len(flushes)} flushes", end=" ")

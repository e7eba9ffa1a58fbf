"""Save, retain, delete, crash and reopen in any order, against a dict."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AbstractContextManager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from milepost.checkpoint import collect, retention, tree, verify
from milepost.checkpoint.collect import Retirement
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.handle import Checkpoint
from milepost.checkpoint.manifest import Manifest, checkpoint_id, checkpoint_name
from milepost.testing.interposer import FAULTS, Fault, Interposer, run_in_child

faults = st.builds(Fault, kind=st.sampled_from(FAULTS), at=st.integers(1, 14))
policies = st.one_of(
    st.builds(retention.LatestN, st.integers(1, 3)),
    st.builds(
        retention.BestN,
        metric=st.just("score"),
        order=st.sampled_from(["min", "max"]),
        count=st.integers(1, 3),
    ),
)


class Trial(RuleBasedStateMachine):
    """A trial's directory does what a dict of committed checkpoints does.

    After a crash each checkpoint in question is either there, whole, or gone: the model takes
    over which. Nothing else may differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.trial = os.path.join(self.root, "experiment", "trial")
        os.makedirs(self.trial)
        self.committed: dict[int, bytes] = {}
        self.scores: dict[int, float] = {}
        self.readers: dict[int, AbstractContextManager[str]] = {}
        self.next_index = 0

    def teardown(self) -> None:
        for reader in self.readers.values():
            reader.__exit__(None, None, None)
        shutil.rmtree(self.root)

    def directory(self, index: int) -> str:
        return os.path.join(self.trial, checkpoint_name(index))

    def stage(self, data: bytes, score: float) -> Prepared:
        index, self.next_index = self.next_index, self.next_index + 1
        self.scores[index] = score
        staged = os.path.join(self.trial, f".milepost-tmp-{index}")
        os.makedirs(os.path.join(staged, "inner"))
        for name in ("model", "inner/state"):
            with open(os.path.join(staged, name), "wb") as file:
                file.write(data)
        described = tree.describe(staged)
        manifest = Manifest(
            id=checkpoint_id("attempt", index), trial="t", index=index, files=described.files
        )
        return Prepared(staged, self.directory(index), manifest)

    def visible(self) -> set[int]:
        return {index for index, _ in verify.committed(self.trial)}

    @initialize(data=st.binary(max_size=3))
    def first(self, data: bytes) -> None:
        self.save([(data, 0.0)])

    @rule(batch=st.lists(st.tuples(st.binary(max_size=3), st.floats()), min_size=1, max_size=3))
    def save(self, batch: list[tuple[bytes, float]]) -> None:
        items = [self.stage(data, score) for data, score in batch]
        assert commit(items) == [item.manifest for item in items]
        for item, (data, _) in zip(items, batch, strict=True):
            self.committed[item.manifest.index] = data

    @rule(
        batch=st.lists(st.tuples(st.binary(max_size=3), st.floats()), min_size=1, max_size=3),
        fault=faults,
    )
    def save_and_crash(self, batch: list[tuple[bytes, float]], fault: Fault) -> None:
        items = [self.stage(data, score) for data, score in batch]
        run_in_child(lambda: commit(items), Interposer(fault))
        visible = self.visible()
        for item, (data, _) in zip(items, batch, strict=True):
            if item.manifest.index in visible:
                self.committed[item.manifest.index] = data

    @rule(policy=policies)
    def retain(self, policy: retention.Policy) -> None:
        for index in self.plan(policy).drop:
            self.delete(index)

    @rule(policy=policies, fault=faults)
    def retain_and_crash(self, policy: retention.Policy, fault: Fault) -> None:
        drop = self.plan(policy).drop
        run_in_child(
            lambda: [collect.retire(self.directory(index)) for index in drop], Interposer(fault)
        )
        visible = self.visible()
        for index in drop:
            if index not in visible:
                assert index not in self.readers
                del self.committed[index]

    def plan(self, policy: retention.Policy) -> retention.Plan:
        entries = [
            retention.Entry(index, metrics={"score": self.scores[index]})
            for index in self.committed
        ]
        plan = retention.plan(entries, policy)
        assert max(self.committed) in plan.keep
        return plan

    def delete(self, index: int) -> None:
        outcome = collect.retire(self.directory(index))
        if index in self.readers:
            assert outcome is Retirement.BUSY
        else:
            assert outcome is Retirement.DELETED
            del self.committed[index]

    @rule(choice=st.integers(0, 99))
    def read(self, choice: int) -> None:
        index = sorted(self.committed)[choice % len(self.committed)]
        if index not in self.readers:
            reader = Checkpoint.from_directory(self.directory(index)).as_directory()
            reader.__enter__()
            self.readers[index] = reader

    @precondition(lambda self: self.readers)
    @rule(choice=st.integers(0, 99))
    def stop_reading(self, choice: int) -> None:
        index = sorted(self.readers)[choice % len(self.readers)]
        self.readers.pop(index).__exit__(None, None, None)

    @rule()
    def reopen(self) -> None:
        collect.sweep(self.trial)
        left = {name for name in os.listdir(self.trial) if "quarantine" not in name}
        assert left == {checkpoint_name(index) for index in self.committed}

    @precondition(lambda self: len(self.committed) > 1)
    @rule(where=st.sampled_from(["model", "inner/state", ".milepost.json"]))
    def damage_the_newest(self, where: str) -> None:
        newest = max(self.committed)
        if newest in self.readers:
            return
        with open(os.path.join(self.directory(newest), where), "ab") as file:
            file.write(b"!")
        del self.committed[newest]
        found = verify.newest_good(self.trial, digests=True, quarantine=True)
        assert found is not None
        assert found[0] == max(self.committed)

    @rule(folder=st.just("moved"))
    def move(self, folder: str) -> None:
        if not self.readers:
            moved = os.path.join(self.root, f"{folder}{self.next_index}")
            os.rename(os.path.dirname(self.trial), moved)
            self.trial = os.path.join(moved, "trial")
            self.next_index += 1

    @invariant()
    def agrees(self) -> None:
        assert self.visible() == set(self.committed)
        for index, data in self.committed.items():
            assert verify.check(self.directory(index), digests=True) == []
            with Checkpoint.from_directory(self.directory(index)).as_directory() as directory:
                for name in ("model", "inner/state"):
                    with open(os.path.join(directory, name), "rb") as file:
                        assert file.read() == data
        if self.committed:
            found = verify.newest_good(self.trial, digests=True)
            assert found is not None
            assert found[0] == max(self.committed)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Trial,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 100,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_state_machine(capfd):
    """A seeded subset of the sequences."""
    run(examples=25, steps=15)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_state_machine_in_full(capfd):
    """Many more, and longer ones, other ones each time."""
    run(examples=1000, steps=40)
